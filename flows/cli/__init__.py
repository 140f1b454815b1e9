"""The command line `spinmeround`: one module per command or group of commands, composed in `app`."""
