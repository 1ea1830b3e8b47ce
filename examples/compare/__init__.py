"""The four models as they are and with `ascend_fixes`: in minutes (`quick`), or every family by itself (`thorough`)."""
