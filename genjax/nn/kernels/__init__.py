"""Operations in forms that are fast on each platform, each beside a native reference."""
