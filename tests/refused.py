"""What an error says."""

import pytest


def refusal(error, function, *args, **options):
    """The message of the error that a call raises."""
    with pytest.raises(error) as caught:
        function(*args, **options)
    return str(caught.value)
