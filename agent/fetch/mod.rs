//! Getting an artifact: download, verify the pin, then read the wanted members.
