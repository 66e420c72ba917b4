"""The output folder: files of each image, ledger, tables, exports."""
