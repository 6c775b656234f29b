"""The closed classes of words that tell corrections, pauses and ends of turns, for each language.

Editing terms, fillers, prepositions and numbers are few and do not change, so lists are enough;
what a call is about is open, so an application adds its own words (`Language.with_kinds`), and
its own editing terms (`Language.with_terms`). All words are lower case and without punctuation; a
term may be several words with blanks between them.

Sources: Levelt 1983 and Shriberg 1994 for what an editing term is; the lists are our own.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Final

from attrs import evolve, field, frozen

from framepipe.errors import FrameError


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _terms(text: str) -> frozenset[str]:
    return frozenset(term.strip() for term in text.split(",") if term.strip())


def plain(word: str) -> str:
    """A word as the lists have it: lower case, without the punctuation around it."""
    return (
        word.lower()
        .replace("\u2019", "'")
        .strip(" \t\n.,;:!?\u2026\"'()[]\u2013\u2014\u00bf\u00a1")
    )


@frozen(kw_only=True)
class Language:
    """What must be known of a language.

    Attributes:
        code: ISO 639-1.
        corrects: Editing terms after which a correction comes, whatever comes ("I mean").
        may_correct: Words that are editing terms only where what follows replaces something
            ("no" is an answer more often).
        restarts: Editing terms that take back all that was said ("scratch that").
        negates: Words for "not": they name what is wrong ("not Denver").
        fillers: Sounds that hold the turn.
        prepositions, determiners, conjunctions, clause_words: What no turn ends with, or what
            begins a phrase or a clause.
        adds: Words that begin something additional, or mark it so at its end.
        yes, no: Answers.
        closers: Words with which turns end.
        kinds: Words that can stand for one another, by the name of their kind ("day").
    """

    code: str
    corrects: frozenset[str]
    may_correct: frozenset[str]
    restarts: frozenset[str]
    negates: frozenset[str]
    fillers: frozenset[str]
    prepositions: frozenset[str]
    determiners: frozenset[str]
    conjunctions: frozenset[str]
    clause_words: frozenset[str]
    adds: frozenset[str]
    yes: frozenset[str]
    no: frozenset[str]
    closers: frozenset[str]
    kinds: Mapping[str, frozenset[str]] = field(factory=dict[str, frozenset[str]])

    def with_kinds(self, **kinds: Iterable[str]) -> Language:
        """The same with more words that can stand for one another, one name for each kind.

        Raises:
            FrameError: A kind without a word.
        """
        more: dict[str, frozenset[str]] = {}
        for name, words in kinds.items():
            known = self.kinds.get(name, frozenset())
            more[name] = known | {_normal(word) for word in words if _normal(word)}
            if not more[name]:
                raise FrameError(f"the kind {name!r} has no words; give it some, or leave it out")
        return evolve(self, kinds={**self.kinds, **more})

    def with_terms(
        self,
        *,
        corrects: Collection[str] = (),
        may_correct: Collection[str] = (),
        restarts: Collection[str] = (),
        fillers: Collection[str] = (),
    ) -> Language:
        """The same with more editing terms and fillers."""
        return evolve(
            self,
            corrects=self.corrects | {_normal(term) for term in corrects},
            may_correct=self.may_correct | {_normal(term) for term in may_correct},
            restarts=self.restarts | {_normal(term) for term in restarts},
            fillers=self.fillers | {_normal(filler) for filler in fillers},
        )

    @cached_property
    def kind_of_phrase(self) -> Mapping[tuple[str, ...], str]:
        """The kind of every listed word or phrase, as the tuple of its words."""
        return {tuple(word.split()): kind for kind, words in self.kinds.items() for word in words}

    @cached_property
    def longest_phrase(self) -> int:
        """Words in the longest listed phrase."""
        return max((len(phrase) for phrase in self.kind_of_phrase), default=1)

    @cached_property
    def editing_terms(self) -> Mapping[str, tuple[tuple[str, ...], ...]]:
        """Every editing term as the tuple of its words, by its first word, the longest first."""
        terms: dict[str, list[tuple[str, ...]]] = {}
        for term in self.corrects | self.may_correct | self.restarts:
            terms.setdefault(term.split()[0], []).append(tuple(term.split()))
        return {first: tuple(sorted(ones, key=_longest_first)) for first, ones in terms.items()}

    def term_at(self, words: Sequence[str], at: int) -> tuple[str, ...]:
        """The editing term that begins at a word; empty: none does."""
        for term in self.editing_terms.get(words[at], ()):
            if tuple(words[at : at + len(term)]) == term:
                return term
        return ()

    @cached_property
    def function_words(self) -> frozenset[str]:
        """Words that carry no content of their own."""
        return (
            self.prepositions
            | self.determiners
            | self.conjunctions
            | self.clause_words
            | self.fillers
            | self.negates
        )


def _normal(words: str) -> str:
    return " ".join(filter(None, map(plain, words.split())))


def _longest_first(term: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    return -len(term), term


_NUMERAL: Final = re.compile(r"\d+(?:[.,:]\d+)*(?:st|nd|rd|th|er|re|e)?\Z")
_CLOCK: Final = re.compile(r"\d{1,2}(?:[:.]\d\d)?\s?(?:am|pm|a\.m|p\.m|uhr|h)\Z")

NUMBER: Final = "number"
"""The kind of numbers. Numbers follow one another, so two in a row are no correction."""

NAME: Final = "name"
"""The kind of words with a capital letter that no list knows."""


def kind_of_word(word: str, language: Language, *, begins: bool = False) -> str | None:
    """The kind of one word as it was written; ``None``: no list knows it, and it is no name.

    Args:
        word: With its punctuation.
        language: Whose lists.
        begins: It begins a sentence, where every word has a capital letter.
    """
    bare = plain(word)
    if _CLOCK.match(bare):
        return "time"
    if _NUMERAL.match(bare):
        return NUMBER
    known = language.kind_of_phrase.get((bare,))
    if known is not None:
        return known
    written = word.strip(" .,;:!?\u2026\"'()[]\u2013\u2014\u00bf\u00a1")
    is_name = written[:1].isupper() and not begins and written != "I" and "'" not in written
    return NAME if is_name and bare not in language.function_words else None


ENGLISH: Final = Language(
    code="en",
    corrects=_terms(
        "i mean, i meant, i meant to say, i mean to say, or rather, rather, make that, make it, "
        "correction, let me rephrase, let me correct that, let me correct myself, wait no, "
        "no wait, no sorry, sorry no, my mistake, my bad, my fault, that's wrong, that is wrong, "
        "i misspoke, i said that wrong, change that to, change it to, switch that to, "
        "switch it to, no no, oops, whoops, i should say, i should have said, what i mean is, "
        "what i meant was, better make that, better make it, on second thought, "
        "on second thoughts, i take that back, no not, that should be, it should be"
    ),
    may_correct=_terms(
        "no, nope, nah, wait, wait a minute, wait a second, wait a moment, hold on, hang on, "
        "sorry, i'm sorry, excuse me, pardon, actually, well, instead, or actually, or no, oh no, "
        "oh wait, oh sorry, let's say, let's make it, let's make that, better, maybe better"
    ),
    restarts=_terms(
        "scratch that, scratch all that, strike that, forget that, forget it, forget what i said, "
        "let me start over, let me start again, start over, never mind, nevermind, "
        "ignore that, disregard that"
    ),
    negates=_set("not"),
    fillers=_set("um uh er erm uhm umm uhh hmm hm mm eh ah"),
    prepositions=_set(
        "to from at on in into for with by of about between via through until till after before "
        "around near under over than towards per without leaving departing arriving"
    ),
    determiners=_set("the a an my your our his her their this that these those some any another"),
    conjunctions=_set("and or but because so if when while although that whether plus then"),
    clause_words=_set(
        "i you we they he she it i'd i'll i'm i've we'd we'll we're can could would will should "
        "do does did is are was were am be have has had might must let let's what where when "
        "who which how why want need like going go please there's it's that's don't book"
    ),
    adds=_set("and also plus too additionally as another both both"),
    yes=_set("yes yeah yep yup sure okay ok right correct exactly absolutely definitely fine"),
    no=_set("no nope nah"),
    closers=_set("please thanks thank you goodbye bye"),
    kinds={
        "number": _set(
            "zero oh one two three four five six seven eight nine ten eleven twelve thirteen "
            "fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty "
            "seventy eighty ninety hundred thousand double triple"
        ),
        "ordinal": _set(
            "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth "
            "thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth "
            "twentieth thirtieth last"
        ),
        "day": _terms(
            "monday, tuesday, wednesday, thursday, friday, saturday, sunday, today, tomorrow, "
            "tonight, the day after tomorrow, next week, this week, the weekend, mondays, fridays"
        ),
        "month": _set(
            "january february march april may june july august september october november december"
        ),
        "part of day": _terms("morning, afternoon, evening, night, noon, midday, midnight, lunch"),
        "answer": _set("yes no yeah nope"),
        "number of people": _terms("alone, both of us"),
        "seat": _set("window aisle middle"),
        "class": _set("economy business"),
        "way": _terms("one way, one-way, return, round trip"),
    },
)
"""American and British English."""

GERMAN: Final = Language(
    code="de",
    corrects=_terms(
        "ich meine, ich meinte, beziehungsweise, vielmehr, besser gesagt, ich wollte sagen, "
        "genauer gesagt, nein warte, warte nein, nein entschuldigung, entschuldigung nein, "
        "nein doch, doch lieber, korrektur, ich korrigiere, nein nein, stimmt nicht, mein fehler, "
        "mach daraus, machen sie daraus, sagen wir, oder besser, oder vielmehr"
    ),
    may_correct=_terms(
        "nein, nee, nö, halt, moment, warte, warten sie, entschuldigung, verzeihung, sorry, "
        "eigentlich, doch, also, pardon, ach, ach nein, ach so, lieber, quatsch, stopp"
    ),
    restarts=_terms("vergiss das, vergessen sie das, streich das, noch mal von vorn, noch einmal"),
    negates=_set("nicht"),
    fillers=_set("äh ähm öh öhm hm hmm mh ehm"),
    prepositions=_set(
        "nach von aus ab an am in im ins zu zum zur für mit bei um über bis auf vor seit gegen ohne"
    ),
    determiners=_set(
        "der die das den dem des ein eine einen einem einer mein meine meinen dieser diese dieses"
    ),
    conjunctions=_set("und oder aber weil dass wenn ob denn sondern als"),
    clause_words=_set(
        "ich du sie er es wir ihr möchte will würde kann können könnte brauche hätte bin ist sind "
        "habe haben wie was wo wann wer warum bitte gern gerne"
    ),
    adds=_set("und auch außerdem noch dazu zusätzlich beide"),
    yes=_set("ja jawohl genau richtig klar sicher okay ok gut stimmt"),
    no=_set("nein nee nö"),
    closers=_set("bitte danke tschüss wiedersehen"),
    kinds={
        "number": _set(
            "null eins ein zwei zwo drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn "
            "vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn zwanzig dreißig vierzig fünfzig "
            "hundert tausend"
        ),
        "ordinal": _set("ersten zweiten dritten vierten fünften sechsten siebten achten neunten"),
        "day": _set(
            "montag dienstag mittwoch donnerstag freitag samstag sonnabend sonntag heute morgen "
            "übermorgen"
        ),
        "month": _set(
            "januar februar märz april mai juni juli august september oktober november dezember"
        ),
        "part of day": _set("vormittag mittag nachmittag abend nacht früh"),
        "answer": _set("ja nein"),
    },
)
"""German."""

SPANISH: Final = Language(
    code="es",
    corrects=_terms(
        "quiero decir, quise decir, mejor dicho, digo, o mejor, no espera, espera no, "
        "no perdón, perdón no, no no, corrijo, me equivoqué, o sea, más bien, que sea, "
        "cámbialo a, cámbielo a"
    ),
    may_correct=_terms(
        "no, espera, espere, perdón, perdona, perdone, disculpa, disculpe, bueno, mejor, ay no, "
        "un momento, en realidad"
    ),
    restarts=_terms("olvídalo, olvídelo, olvida eso, borra eso, empiezo de nuevo"),
    negates=_set("no"),
    fillers=_set("eh em ehm este mmm hm"),
    prepositions=_set("a al de del desde en con por para hacia hasta sin sobre entre"),
    determiners=_set("el la los las un una unos unas mi mis su este esta ese esa"),
    conjunctions=_set("y e o u pero porque que si cuando aunque"),
    clause_words=_set(
        "yo tú usted él ella quiero quisiera necesito me gustaría puedo puede podría es son está "
        "estoy hay qué dónde cuándo quién cómo"
    ),
    adds=_set("y también además otro otra ambos"),
    yes=_set("sí si claro vale correcto exacto perfecto bueno"),
    no=_set("no"),
    closers=_set("gracias favor adiós"),
    kinds={
        "number": _set(
            "cero uno una dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce "
            "quince veinte treinta cuarenta cincuenta cien mil"
        ),
        "ordinal": _set("primero segundo tercero cuarto quinto"),
        "day": _terms(
            "lunes, martes, miércoles, jueves, viernes, sábado, domingo, hoy, mañana, pasado mañana"
        ),
        "month": _set(
            "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre "
            "diciembre"
        ),
        "part of day": _set("tarde noche mediodía"),
        "answer": _set("sí no"),
    },
)
"""Spanish."""

FRENCH: Final = Language(
    code="fr",
    corrects=_terms(
        "je veux dire, je voulais dire, ou plutôt, plutôt, non attendez, non attends, "
        "attendez non, non pardon, pardon non, enfin non, non non, je me trompe, "
        "je me suis trompé, je corrige, mettez plutôt, disons plutôt"
    ),
    may_correct=_terms(
        "non, attendez, attends, pardon, désolé, désolée, excusez-moi, en fait, enfin, disons, "
        "un instant, ah non, euh non"
    ),
    restarts=_terms("oubliez ça, oubliez, laissez tomber, je recommence, annulez ça"),
    negates=_set("pas"),
    fillers=_set("euh heu hum ben bah hm"),
    prepositions=_set("à au aux de du des depuis en dans avec pour par vers chez sans sur entre"),
    determiners=_set("le la les un une mon ma mes votre ce cet cette ces"),
    conjunctions=_set("et ou mais parce que si quand donc car"),
    clause_words=_set(
        "je j'ai j'aimerais tu vous il elle nous on voudrais veux peux pouvez puis-je est sont "
        "suis c'est ai avez qui quoi où quand comment pourquoi"
    ),
    adds=_set("et aussi également encore autre"),
    yes=_set("oui ouais d'accord exactement bien voilà correct ok"),
    no=_set("non"),
    closers=_set("merci plaît plait revoir"),
    kinds={
        "number": _set(
            "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze "
            "quinze seize vingt trente quarante cinquante soixante cent mille"
        ),
        "ordinal": _set("premier deuxième troisième quatrième cinquième"),
        "day": _terms(
            "lundi, mardi, mercredi, jeudi, vendredi, samedi, dimanche, aujourd'hui, demain, "
            "après-demain"
        ),
        "month": _set(
            "janvier février mars avril mai juin juillet août septembre octobre novembre décembre"
        ),
        "part of day": _set("matin après-midi soir nuit midi"),
        "answer": _set("oui non"),
    },
)
"""French."""

LANGUAGES: Final[Mapping[str, Language]] = {
    language.code: language for language in (ENGLISH, GERMAN, SPANISH, FRENCH)
}
"""The languages with lists, by their code."""
