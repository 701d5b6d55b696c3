"""Nations, peoples, religions and political groups as words that are said of a person, English and Polish.

Names of states follow the United Nations' member list, faiths and parties those that people name in forms and chats.
Everything is in small letters; Polish words also stand without their diacritics, as they are often written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from app.pii.words import words

_NATIONS: Final = words(
    "afghan albanian algerian american andorran angolan argentine argentinian armenian aruban australian austrian "
    "azerbaijani azeri bahamian bahraini bangladeshi barbadian basque belarusian belgian belizean bengali beninese "
    "bermudian bhutanese bolivian bosnian botswanan brazilian british breton bruneian bulgarian burkinabe burmese "
    "burundian cambodian cameroonian canadian catalan chadian chechen chilean chinese colombian comorian congolese "
    "cornish corsican costarican croat croatian cuban cypriot czech danish dane dominican dutch ecuadorian ecuadorean "
    "egyptian emirati english eritrean estonian eswatini ethiopian faroese fijian filipino filipina finn finnish "
    "flemish french frenchman frenchwoman frisian galician gabonese gambian georgian german ghanaian greek "
    "greenlandic grenadian guatemalan guinean guyanese haitian hawaiian honduran hungarian icelander icelandic indian "
    "indonesian iranian iraqi irish irishman irishwoman israeli italian ivorian jamaican japanese jordanian kazakh "
    "kenyan korean kosovan kosovar kurd kurdish kuwaiti kyrgyz lao laotian latvian lebanese liberian libyan "
    "lithuanian luxembourger luxembourgish macedonian malagasy malawian malay malaysian maldivian malian maltese "
    "maori māori mauritanian mauritian mexican moldovan monegasque mongol mongolian montenegrin moroccan mozambican "
    "namibian nepalese nepali nicaraguan nigerian nigerien norwegian omani pakistani palestinian panamanian "
    "paraguayan persian peruvian pole polish portuguese punjabi qatari romanian russian rwandan salvadoran samoan "
    "sardinian saudi scot scots scottish scotsman scotswoman senegalese serb serbian sicilian silesian singaporean "
    "slovak slovakian slovene slovenian somali spaniard spanish sudanese surinamese swede swedish swiss syrian "
    "taiwanese tajik tamil tanzanian tatar thai tibetan togolese tongan trinidadian tunisian turk turkish turkmen "
    "ugandan ukrainian uruguayan uyghur uzbek vanuatuan venezuelan vietnamese welsh welshman welshwoman yemeni "
    "yemenite zambian zimbabwean englishman englishwoman dutchman dutchwoman briton igbo yoruba hausa zulu xhosa "
    "pashtun hmong sami sámi inuit métis cherokee navajo lakota sioux aboriginal kashubian sorb assyrian circassian "
    "rohingya hazara berber amazigh tutsi hutu"
)
_PEOPLES: Final = words(
    "african arab arabic asian european hispanic latino latina latinx slavic slav caribbean caucasian roma romani "
    "sinti traveller jewish jew ashkenazi sephardic biracial multiracial indigenous"
)
_FAITHFUL: Final = words(
    "catholic christian protestant anglican baptist methodist lutheran calvinist presbyterian pentecostal evangelical "
    "adventist mormon quaker mennonite amish orthodox coptic copt maronite muslim moslem sunni shia shiite sufi "
    "ahmadi ismaili alevi alawite druze hindu sikh jain buddhist taoist shinto zoroastrian parsi bahai baháʼí "
    "rastafarian pagan wiccan heathen satanist scientologist atheist agnostic unitarian hasidic haredi episcopalian "
    "zionist yazidi"
)
FAITHS: Final = words(
    "islam judaism christianity catholicism buddhism hinduism sikhism protestantism jainism judaizm katolicyzm "
    "prawosławie buddyzm hinduizm protestantyzm chrześcijaństwo"
)
"""What somebody converts to, or writes into the field of a form."""
_PARTISANS: Final = words(
    "republican democrat tory communist socialist marxist anarchist libertarian feminist monarchist nationalist "
    "conservative liberal centrist leftist labour ukip trotskyist"
)
_COMPOSED: Final = words("african american anglo black british irish roman greek russian white south north native")
"""Words that belong to a group's name where they stand right before or behind another: Roman Catholic."""

_POLISH_NOUNS: Final = words(
    "mongoł mongołem mongołka mongołką hindusi hiszpanie francuzi włosi rosjanie amerykanie polak polakiem polka "
    "polką polaków ukrainiec ukraińcem ukrainka ukrainką rosjanin rosjaninem rosjanka rosjanką białorusin "
    "białorusinem białorusinka białorusinką niemiec niemcem niemka niemką francuz francuzem francuzka francuzką włoch "
    "włochem włoszka włoszką hiszpan hiszpanem hiszpanka hiszpanką anglik anglikiem angielka angielką brytyjczyk "
    "brytyjczykiem brytyjka brytyjką szkot szkotem szkotka szkotką irlandczyk irlandczykiem irlandka irlandką "
    "amerykanin amerykaninem amerykanka amerykanką kanadyjczyk kanadyjczykiem kanadyjka kanadyjką czech czechem "
    "czeszka czeszką słowak słowakiem słowaczka słowaczką litwin litwinem litwinka litwinką łotysz łotyszem łotyszka "
    "łotyszką estończyk estończykiem estonka estonką węgier węgrem węgierka węgierką rumun rumunem rumunka rumunką "
    "bułgar bułgarem bułgarka bułgarką serb serbem serbka serbką chorwat chorwatem chorwatka chorwatką słoweniec "
    "słoweńcem słowenka słowenką grek grekiem greczynka greczynką turek turkiem turczynka turczynką gruzin gruzinem "
    "gruzinka gruzinką ormianin ormianinem ormianka ormianką mołdawianin mołdawianinem mołdawianka mołdawianką kazach "
    "kazachem kazaszka kazaszką uzbek uzbekiem uzbeczka uzbeczką tadżyk tadżykiem czeczen czeczenem czeczenka "
    "czeczenką syryjczyk syryjczykiem syryjka syryjką irakijczyk irakijczykiem irańczyk irańczykiem iranka iranką "
    "afgańczyk afgańczykiem afganka afganką pakistańczyk pakistańczykiem hindus hindusem hinduska hinduską nepalczyk "
    "nepalczykiem nepalka nepalką wietnamczyk wietnamczykiem wietnamka wietnamką chińczyk chińczykiem chinka chinką "
    "japończyk japończykiem japonka japonką koreańczyk koreańczykiem koreanka koreanką filipińczyk filipińczykiem "
    "filipinka filipinką nigeryjczyk nigeryjczykiem nigeryjka nigeryjką etiopczyk etiopczykiem kenijczyk kenijczykiem "
    "egipcjanin egipcjaninem egipcjanka egipcjanką marokańczyk marokańczykiem marokanka marokanką algierczyk "
    "algierczykiem tunezyjczyk tunezyjczykiem brazylijczyk brazylijczykiem brazylijka brazylijką argentyńczyk "
    "argentyńczykiem kolumbijczyk kolumbijczykiem kolumbijka kolumbijką wenezuelczyk wenezuelczykiem meksykanin "
    "meksykaninem meksykanka meksykanką szwed szwedem szwedka szwedką norweg norwegiem norweżka norweżką duńczyk "
    "duńczykiem dunka dunką fin finem finka finką holender holendrem holenderka holenderką belg belgiem belgijka "
    "belgijką szwajcar szwajcarem szwajcarka szwajcarką austriak austriakiem austriaczka austriaczką portugalczyk "
    "portugalczykiem portugalka portugalką izraelczyk izraelczykiem izraelka izraelką palestyńczyk palestyńczykiem "
    "palestynka palestynką arab arabem arabka arabką kurd kurdem kurdyjka kurdyjką żyd żydem żydówka żydówką rom "
    "romem romka romką cygan cyganem cyganka cyganką ślązak ślązakiem ślązaczka ślązaczką kaszub kaszubem kaszubka "
    "kaszubką tatar tatarem tatarka tatarką łemko łemkiem łemkini łemkinią somalijczyk somalijczykiem somalijka "
    "somalijką libańczyk libańczykiem libanka libanką ukraińcy ukrainki polacy polki romowie żydzi białorusini"
)
_POLISH_FAITHFUL: Final = words(
    "islam judaizm katolicyzm prawosławie buddyzm protestantyzm katolik katolikiem katoliczka katoliczką katolikami "
    "protestant protestantem protestantka protestantką ewangelik ewangelikiem ewangeliczka ewangeliczką luteranin "
    "luteraninem luteranka luteranką kalwin kalwinem baptysta baptystą baptystka baptystką zielonoświątkowiec "
    "zielonoświątkowcem adwentysta adwentystą adwentystka adwentystką muzułmanin muzułmaninem muzułmanka muzułmanką "
    "muzułmanie muzułmanami szyita szyitą sunnita sunnitą hinduista hinduistą hinduistka hinduistką buddysta buddystą "
    "buddystka buddystką sikh sikhem ateista ateistą ateistka ateistką agnostyk agnostykiem agnostyczka agnostyczką "
    "mormon mormonem mormonka mormonką prawosławny prawosławna prawosławnym prawosławną prawosławni grekokatolik "
    "grekokatolikiem grekokatoliczka grekokatoliczką chrześcijanin chrześcijaninem chrześcijanka chrześcijanką "
    "niewierzący niewierząca niewierzącym niewierzącą komunista komunistą komunistka komunistką socjalista socjalistą "
    "socjalistka socjalistką anarchista anarchistą anarchistka anarchistką feministka feministką konserwatysta "
    "konserwatystą narodowiec narodowcem pisowiec pisowcem poganin poganinem poganka poganką"
)
_POLISH_STEMS: Final = words(
    "pols ukraińs białorus rosyjs niemiec francus włos hiszpańs angiels brytyjs szkoc irlandz amerykańs kanadyjs czes "
    "słowac litews łotews estońs węgiers rumuńs bułgars serbs chorwac słoweńs grec turec gruzińs ormiańs mołdaws "
    "kazachs uzbec tadżyc czeczeńs syryjs irac irańs afgańs pakistańs indyjs nepals wietnams chińs japońs koreańs "
    "filipińs nigeryjs etiops kenijs egips marokańs algiers tunezyjs brazylijs argentyńs kolumbijs wenezuels "
    "meksykańs szweds norwes duńs fińs holenders belgijs szwajcars austriac portugals izraels palestyńs arabs kurdyjs "
    "żydows roms cygańs śląs kaszubs tatars łemkows somalijs libańs katolic rzymskokatolic protestanc ewangelic "
    "luterańs muzułmańs szyic sunnic hinduistyczn buddyjs chrześcijańs grekokatolic prawosławn islams romań kalwińs "
    "anglikańs"
)
"""Of adjectives in -ki and -ny."""
_ENDINGS: Final = ("ki", "kiego", "kiemu", "kim", "ka", "kiej", "ką", "kie", "kich", "kimi")
_HARD_ENDINGS: Final = ("y", "ego", "emu", "ym", "a", "ej", "ą", "e", "ych", "ymi")
_PLAIN: Final = str.maketrans("ąćęłńóśźż", "acelnoszz")


def _with_plain(group: frozenset[str]) -> frozenset[str]:
    return group | {word.translate(_PLAIN) for word in group}


def _plurals(group: frozenset[str]) -> frozenset[str]:
    return frozenset(word + ("es" if word.endswith(("ch", "sh")) else "s") for word in group)


def _with_objects(nouns: frozenset[str]) -> frozenset[str]:
    """Add the forms in which somebody is an object ("wyszła za Egipcjanina"), and those for several."""
    forms = set(nouns)
    for noun in nouns:
        if noun.endswith("anin"):
            forms |= {noun + "a", noun.removesuffix("in") + "ie"}
        elif noun.endswith("czyk"):
            forms |= {noun + "a", noun.removesuffix("k") + "cy"}
        elif noun.endswith("ka"):
            forms |= {noun.removesuffix("a") + ending for ending in ("ę", "i")}
    return frozenset(forms)


def _adjectives(stem: str) -> set[str]:
    if stem.endswith("n"):
        return {stem + ending for ending in _HARD_ENDINGS}
    return {stem + ending for ending in _ENDINGS}


_SINGULAR: Final = _NATIONS | _PEOPLES | _FAITHFUL | _PARTISANS
ENGLISH: Final = _SINGULAR | _plurals(_SINGULAR)
"""Adjectives and nouns, singular and plural."""
PARTIES: Final = _PARTISANS | words("green greens snp plaid lib")
"""What somebody votes."""
POLISH_NOUNS: Final = _with_plain(_with_objects(_POLISH_NOUNS | _POLISH_FAITHFUL))
"""In the cases in which they are said of somebody: who one is."""
POLISH_ADJECTIVES: Final = _with_plain(
    frozenset(form for stem in _POLISH_STEMS for form in _adjectives(stem)) | {"mojżeszowe", "mojżeszowego"}
)
_ALSO_NAMES: Final = _with_plain(
    words(
        "english french german welsh christian dane finn scot pole turk breton jain sami roma lao pagan scots green "
        "labour moody parsi thai swede mongol traveller dominican indigenous irish persian israeli roman norman "
        "african berber niemiec niemcem czech czechem szwed szwedem turek turkiem polak polakiem litwin litwinem "
        "węgier węgrem włoch włochem słowak słowakiem tatar tatarem cygan cyganem żyd żydem francuz francuzem anglik "
        "anglikiem szkot szkotem rom romem kaszub kaszubem ślązak ślązakiem serb serbem chorwat chorwatem fin finem "
        "grek grekiem arab arabem holender holendrem czeczen czeczenem rusin belg belgiem fina dunka słowackiego "
        "łotysz łotyszem hiszpan hiszpanem katolik katolikiem catalan romani hazara punjabi bengali nepali"
    )
)
"""What somebody may be called."""
SEVERAL: Final = _plurals(_SINGULAR) | _with_plain(
    frozenset(word for word in _with_objects(_POLISH_NOUNS | _POLISH_FAITHFUL) if word.endswith(("cy", "anie", "dzi")))
    | words("polaków polki ukrainki romowie białorusini hindusi hiszpanie francuzi włosi")
)
"""Of more than one, who may be all there are."""
COMPOSED: Final = ENGLISH | _COMPOSED
ANY: Final = ENGLISH | POLISH_NOUNS | POLISH_ADJECTIVES | FAITHS | PARTIES


def is_group(names: Iterable[str]) -> bool:
    """Whether words in small letters that were taken for a name are one for a group, and nobody is called so."""
    given = list(names)
    return all(word in COMPOSED or word in ANY for word in given) and any(
        word in ANY and word not in _ALSO_NAMES for word in given
    )
