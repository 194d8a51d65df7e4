"""The console script `tspo-trl`: one module per subcommand, put together in [`main`]."""
