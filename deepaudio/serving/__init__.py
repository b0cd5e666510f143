"""The server: Batch Dispatch, live recognition and the HTTP endpoints.

`deepaudio.serving.batch_dispatch` knows nothing of the web; what does needs the extra `serve`.
`deepaudio serve` starts it all.
"""
