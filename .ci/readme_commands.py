"""Print the shell commands of one section of README.md, so that what CI runs is what the README says."""

import re
import sys
from pathlib import Path


def commands(section: str) -> str:
    """Return all ```bash blocks under the heading `section` (case-insensitive), joined."""
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        if title.strip().lower() == section.lower():
            return "\n".join(re.findall(r"^```bash\n(.*?)^```", body, flags=re.MULTILINE | re.DOTALL))
    raise SystemExit(f"README.md has no section {section!r}")


if __name__ == "__main__":
    sys.stdout.write(commands(sys.argv[1]))
