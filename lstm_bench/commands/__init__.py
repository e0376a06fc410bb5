"""What each command of the command line does; `app` declares them."""
