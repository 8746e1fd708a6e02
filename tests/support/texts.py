"""Texts on which tokenizers differ if anything is wrong with them."""

from hypothesis import strategies as st

# Each library carries its own Unicode tables, of different years. A letter that
# one of them does not know yet is no letter to it, so the cuts differ. Python's table
# is the oldest: a code point assigned there (neither Cn, unassigned, nor Cs, half a
# pair) is known to all.
ASSIGNED = st.characters(exclude_categories=["Cn", "Cs"])
AWKWARD_CHARACTERS = "ab'stre \n\t\r\x1c\x85\xa0\u200b\ufeff019²Ⅷ½é\u0301中🤗\u200d!"
AWKWARD_PARTS = ["'ll", "'LL", "don't", " the", "  ", "\r\n", "123", "…", "👩‍👩‍👧"]
TEXT = st.one_of(
    st.text(ASSIGNED, max_size=60),
    st.text(st.sampled_from(AWKWARD_CHARACTERS), max_size=60),
    st.lists(st.sampled_from(AWKWARD_PARTS)).map("".join),
)

MULTILINGUAL = """\
English: The quick brown fox jumps over it; isn't it? I'll say we've DON'T 3rd.
Français : « L'été, où êtes-vous ? » Ça coûte 12,50 €.
Deutsch: Weißt du, daß Fußgängerübergänge größer sind?
Ελληνικά: Ξεσκεπάζω τὴν ψυχοφθόρα βδελυγμία.
Русский: Съешь же ещё этих мягких французских булок.
עברית: דג סקרן שט בים מאוכזב ולפתע מצא חברה.
العربية: نص حكيم له سر قاطع وذو شأن عظيم ١٢٣.
हिन्दी: ऋषियों को सताने वाले दुष्ट राक्षसों के राजा १२३।
ไทย: เป็นมนุษย์สุดประเสริฐเลิศคุณค่า ๑๒๓
中文：我能吞下玻璃而不傷身體。
日本語：いろはにほへと　ちりぬるを。カタカナ
한국어: 다람쥐 헌 쳇바퀴에 타고파.
Čeština: Příliš žluťoučký kůň úpěl ďábelské ódy; e\u0301 ≠ é.
Emoji: 👩‍👩‍👧‍👦 🇩🇪 👍🏽 ☺️ 🤗; math: ∀x ∈ ℝ, x² ≥ 0; ½ + ¼ Ⅷ ① \u200b\ufeff
Code:\tdef f(x):\n\t    return x**2  # \\n <script>alert("1")</script>\r\n\x00\x07
Ends:\x1c\x85\xa0end   
"""
