"""How subcommands show errors."""


def one_line(error: Exception) -> str:
    """What an error says, in one line; the name of its class where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
