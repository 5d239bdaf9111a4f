"""Bad input as a table, continued: files and folders that a user may not read or write; `test_places.py` runs it."""

GENERATE = ("generate", "The lake", "--bag", "space", "--seed", "0", "--max-new-tokens", "2", "--num-samples", "1")
ROWS = {
    "a bag": ((*GENERATE, "--bag", "locked"), "word list locked cannot be read: Permission denied; name another file"),
    "a bag in a folder": ((*GENERATE, "--bag", "closed/sky.txt"), "'closed/sky.txt' is neither a file nor a shipped list"),
    "frequencies": ((*GENERATE, "--bag-weights", "locked"), "text file locked cannot be read: Permission denied"),
    "conversations": (("generate", "--messages", "locked", "--bag", "space"), "file locked cannot be read: Permission denied"),
    "texts to score": (("score", "locked.csv"), "locked.csv cannot be read: Permission denied"),
    "labelled texts": (("train-discriminator", "locked.tsv", "--output", "new"), "locked.tsv cannot be read: Permission denied"),
    "prompts of a job": (("generate", "--prompts-file", "locked.txt", *GENERATE[2:]), "locked.txt cannot be read: Permission denied"),
    "a job in a folder that is closed": (("generate", "--prompts-file", "corpus.txt", *GENERATE[2:], "--output", "readonly/out"), "--output readonly/out cannot be written; choose another place"),
    "a job whose file is locked": (("generate", "--prompts-file", "corpus.txt", *GENERATE[2:], "--output", "locked", "--overwrite"), "--output locked cannot be written"),
    "prompts": (("tune", "--bag", "space", "--prompts", "locked"), "prompts locked cannot be read: Permission denied"),
    "a base model's text": (("train-base", "locked.txt", "--output", "new", "--steps", "1"), "locked.txt cannot be read"),
    "a head's folder": ((*GENERATE, "--discriminator", "closed:good"), "discriminator"),
    "a head's weights": ((*GENERATE, "--discriminator", "mood:good"), "discriminator mood cannot be read"),
    "a published head": ((*GENERATE, "--discriminator", "locked.pt:good", "--labels", "a,good"), "head locked.pt cannot be read"),
    "a model": ((*GENERATE, "--model", "./closed"), "cannot load model './closed'"),
    "a text in a folder that is closed": ((*GENERATE, "--output", "readonly/out"), "--output readonly/out cannot be written"),
    "a text over one that is locked": ((*GENERATE, "--output", "locked", "--overwrite"), "--output locked cannot be written"),
    "scores": (("score", "texts.csv", "--csv", "readonly/out.csv"), "readonly/out.csv cannot be written"),
    "a head in a folder that is closed": (("train-discriminator", "data.tsv", "--output", "readonly/new"), "readonly/new cannot be written"),
    "a base model": (("train-base", "corpus.txt", "--output", "readonly/new", "--steps", "1"), "readonly.* cannot be written"),
    "a figure": (("sine", "--seeds", "1", "--plot", "readonly/a.png"), "readonly/a.png cannot be written"),
}  # fmt: skip
"""By what is refused: what is typed, and what has to be said."""
