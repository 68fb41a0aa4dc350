"""Operations in the forms that each platform runs fast, with a native reference beside each."""
