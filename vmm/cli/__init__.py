"""The command line `r3s3`: one file per command. It holds no authority and no mechanism of its own."""
