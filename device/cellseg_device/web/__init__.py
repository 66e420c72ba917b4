"""The page in a browser; all is slim but `painter`, `editor`, `teacher`, `counter` and `packing`, own processes.

| server ─┬─ painter  decodes images and draws pictures; begun with the first picture, ended when none is asked for
|         ├─ editor   corrects; begun with the first edit, ended when there are none
|         ├─ teacher  knows models; begun with the screen for teaching
|         ├─ counter  counts what is uploaded; begun with the first upload
|         └─ packing  writes one download: begun with it, ended with it

What the server itself imports has no array library: while nobody looks it takes less than 80 MB.
"""
