"""Pictures of what attackers get: out of planted canaries, and for what it takes them."""

from collections.abc import Iterator, Sequence

from redteam.formats.html.charts import Mark, Range, ranges
from redteam.formats.html.page import Figure, HtmlTable
from redteam.formats.html.svg import spread
from redteam.report import Limit, number, plural, range_of
from redteam.report.metrics import metric
from redteam.report.pictures import Method
from redteam.report.values import AuditReport, Evidence

_ACCESS = ("labels", "losses", "probabilities", "weights")  # what is asked of an attacker, rising


def canaries(report: AuditReport, limits: Sequence[Limit]) -> Iterator[Figure]:
    """Yield by metric what was got of planted canaries, beside what a held-out one shows by chance."""
    planted = [each for each in report.evidence if metric(each.metric).of_canaries]
    for name in dict.fromkeys(each.metric for each in planted):
        of, own = metric(name), [each for each in planted if each.metric == name]
        drawn = [
            Range(
                f"{each.attack} {each.signal}",
                each.interval.low,
                each.interval.high,
                each.interval.value,
                of.full(each),
                "plain",
                (Mark("attainable", each.attainable, "attainable"),),
            )
            for each in own
        ]
        bits = of.measured_in == "bits"
        lines = [Mark("a held-out canary: 1 bit, by chance", 1.0, "chance")] if bits else []
        lines += [Mark(f"{each.key} {each.limit:g}", each.limit, "limit") for each in limits if each.metric == name]
        values = [0.0, *(v for row in drawn for v in (row.high, *(m.value for m in row.marks)))]
        ends = spread([*values, *(line.value for line in lines)], least=0.0, most=1e300 if bits else 1.0)
        title = f"Planted canaries: {of.symbol}"
        about = "; ".join(f"{row.name} {row.said}" for row in drawn)
        picture = ranges(title, about, drawn, lines, axis=f"{of.symbol} ({of.measured_in})", ends=ends)
        worst = max(own, key=lambda each: (each.interval.low, each.interval.value))
        rows = tuple((f"{e.attack} {e.signal}", f"{e.members}", of.full(e), number(e.attainable)) for e in own)
        headers = ("attack and repetitions", "canaries", of.symbol, "attainable")
        meaning = (
            f"{of.meaning(worst)} ({worst.attack} {worst.signal}).",
            "A diamond is the most that could be shown.",
        )
        yield Figure(title, picture, meaning, HtmlTable(headers, rows, headers[1:]))


def costs(report: AuditReport, methods: Sequence[Method]) -> Iterator[Figure]:
    """Yield how strong each attack was beside what it takes, cheapest first."""
    best: dict[str, Evidence] = {}
    for one in report.evidence:
        kept = best.get(one.attack)
        if metric(one.metric).measured_in == "probability" and (
            kept is None or one.interval.value > kept.interval.value
        ):
            best[one.attack] = one
    asked = sorted((each for each in methods if each.attack in best), key=_price)
    if len(asked) < 2:
        return
    drawn, rows = [], []
    for each in asked:
        found = best[each.attack]
        takes = each.needs + (f" and {plural(each.models, 'model')} trained" if each.models else "")
        said = range_of(found.interval)
        drawn.append(
            Range(f"{each.attack} by {takes}", found.interval.low, found.interval.high, found.interval.value, said)
        )
        rows.append((each.attack, each.name, takes, found.signal, said))
    title = "What an attack takes, and how strong it is"
    lines = [Mark("chance", 0.5, "chance")]
    ends = spread([0.5, *(v for row in drawn for v in (row.low, row.high))], least=0.0, most=1.0)
    strong = max(asked, key=lambda each: best[each.attack].interval.low)
    meaning = (
        f"From the least that an attacker needs to the most. The strongest here, {strong.attack} {strong.name}, needs "
        f"{strong.needs}" + (f" and {plural(strong.models, 'model')} like this one." if strong.models else "."),
        "Whoever can afford less learns no more than the rows above show.",
    )
    about = "; ".join(f"{row.name} {row.said}" for row in drawn)
    headers = ("attack", "name", "takes", "signal", "AUC")
    picture = ranges(title, about, drawn, lines, axis="AUC of its strongest signal", ends=ends)
    yield Figure(title, picture, meaning, HtmlTable(headers, tuple(rows), ("AUC",)))


def _price(method: Method) -> tuple[int, int, str]:
    first = method.needs.partition(" and ")[0]
    return method.models, _ACCESS.index(first) if first in _ACCESS else len(_ACCESS), method.attack
