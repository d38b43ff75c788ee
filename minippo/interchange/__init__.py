"""Models out of a run and into one.

load.py                the models of a run folder
hugging_face.py        a model to Hugging Face's files
foreign.py             a GPT-2 in Hugging Face's files to a model of ours
foreign_files.py       the JSON and the tensors of such a folder
foreign_tokenizer.py   its tokenizer
"""
