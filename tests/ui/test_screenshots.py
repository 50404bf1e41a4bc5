"""The tool that draws the pictures of the documentation works; their looks are for people."""

import re
from pathlib import Path

from tools.screenshots import draw

README = Path(__file__).resolve().parents[2] / "README.md"


async def test_every_picture_shows_what_it_is_of(tmp_path: Path) -> None:
    drawn = await draw(tmp_path)
    words = {
        "overview": ("tools-621k", "RTX 2080 Ti", "no route to host", "smp/s"),
        "job": ("24.6 smp/s", "1.27x hydra alone", "equal on 4 of 4 ranks"),
        "logs": ("hydra/0", "loss 1."),
        "metrics": ("loss of j-7f3a", "gradient norm"),
        "launch": ("new job", "hydra ~50% (2 GPUs)", "items.reverse()"),
    }
    assert {file.stem for file in drawn} == words.keys()
    for file in drawn:
        picture = file.read_text()
        text = re.sub(r"<[^>]+>", "", picture).replace("&#160;", " ")
        for each in words[file.stem]:
            assert each in text, f"{file.stem}: {each}"
        assert "url(http" not in picture, "nothing is fetched from elsewhere"


def test_the_pictures_of_the_readme_are_there() -> None:
    shown = re.findall(r"\((docs/\w+\.svg)\)", README.read_text())
    assert len(shown) >= 3
    assert [each for each in shown if not (README.parent / each).is_file()] == []
