"""A real ComfyUI for development and tests: installed from its package, started with this pack, driven over HTTP.

``install.py`` puts a host into ``.cache/comfyui/<version>/``, ``server.py`` runs it, ``client.py`` talks to it, and
``python -m devhost`` (``make host``) does all of that for a person with a browser. ComfyUI is GPL-3 and no part of this
project: it is downloaded when asked for and never copied into the tree.
"""
