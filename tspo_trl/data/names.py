"""The words of SearchWorld's names.

A name is two words, one from each list of its kind: `Ada Abbot`, `North Aldham`, `Amber Anchor`. No word is in two
lists or elsewhere in passages and questions, so only the words of a name find it.
"""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAME_WORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "person": (
        _words(
            "Ada Alma Arlo Bella Cedric Cyril Dexter Edgar Elsa Esther Flora Gemma Gustav Hector Ida Ingrid Ivan "
            "Jonah Karin Lena Lotte Mabel Milo Nadia Olga Otto Ramon Rufus Sonja Tobias Vera Wanda"
        ),
        _words(
            "Abbot Ames Becker Blaine Burke Chase Cruz Dietz Eaton Engel Finch Frost Gibbs Hale Hobbs Ivers "
            "Keller Kerr Larsen Lowell Moreau Nagel Oakes Orr Price Ramsey Sauer Shaw Tate Unger Wagner Wilde"
        ),
    ),
    "place": (
        _words(
            "North East Upper Old Great High Inner Long Green White Saint Lake Mount Bridge Kings Abbey Cold Fair "
            "Iron Far"
        ),
        _words(
            "Aldham Barlow Brixen Colmar Dalby Elgin Falmer Galway Hadley Ilmen Kelso Lindau Malden Nantes Oakham "
            "Padua Ripon Selby Tarbert Wexford"
        ),
    ),
    "work": (
        _words(
            "Amber Bitter Bright Burning Crimson Crystal Empty Fading Final Frozen Gilded Hidden Ivory Lost "
            "Narrow Paper Restless Secret Silver Wandering"
        ),
        _words(
            "Anchor Bell Carnival Compass Dancer Dream Garden Harbor Horizon Journey Letter Meadow Mountain "
            "Orchard Pilgrim River Song Staircase Tower Window"
        ),
    ),
}
