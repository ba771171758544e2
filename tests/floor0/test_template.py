"""Templates over data: what they give, which names they use, and what they refuse."""

from __future__ import annotations

import dataclasses
import enum
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pydantic
import pytest

from agentmesh.data import DataView
from agentmesh.errors import HandleMisuse
from agentmesh.template import Expression, Template, TemplateProblem, value_template


class Idea(pydantic.BaseModel):
    title: str
    score: float = 0

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def shout(self) -> str:
        return self.title.upper()


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    title: str


@dataclasses.dataclass
class Row:
    key: str
    item: Any
    rank: int = 1


class Pair(NamedTuple):
    left: int
    right: list[int]


class Colour(enum.Enum):
    RED = "red"


class Handle:
    def __str__(self) -> str:
        raise HandleMisuse("a task is not its value")


class Reviews(DataView):
    """As a collection of a workflow: values in order, by key, and what failed."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def read_field(self, name: str) -> Any:
        return {"failed": ["f1"]}[name]

    def read_item(self, key: Any) -> Any:
        return self.values.get(key)

    def field_names(self) -> Iterator[str]:
        yield "failed"

    def plain(self) -> Any:
        return list(self.values.values())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values.values())

    def __len__(self) -> int:
        return len(self.values)


IDEA = Idea(title="T", score=8)
SCOPE: dict[str, Any] = {
    "inputs": {"goal": "G", "n": 2, "items": "a field called items"},
    "item": {"title": "t", "flaws": ["a", "b"], "keys": 3},
    "idea": IDEA,
    "open": Open.model_validate({"title": "o", "more": 5}),
    "row": Row("k", IDEA),
    "pair": Pair(1, [2]),
    "sample": 0,
    "nothing": None,
    "colour": Colour.RED,
    "tasks": {
        "contest": [Row("a", IDEA), Row("b", {"title": "u"})],
        "review": Reviews({"a": {"flaws": ["x", "y"]}}),
        "plan": [{"topics": ["p", "q"]}, {"topics": None}, {"topics": ["r"]}],
    },
    "so_far": {"draft": ["d1"]},
}

RENDERED = [
    ("Goal: {{ inputs.goal }} {{ sample + 1 }}", "Goal: G 1"),
    ("{{ inputs.items }} {{ item.keys }}", "a field called items 3"),
    ("{{ item['title'] }} {{ item.flaws[0] }} {{ item.flaws[-1] }} {{ item.flaws[:1] }}", 't a b ["a"]'),
    ("{{ idea.title }} {{ idea.score }} {{ idea.shout }} {{ open.more }}", "T 8 T 5"),
    ("{{ row.key }} {{ row.item.title }} {{ pair.left }}", "k T 1"),
    ("[{{ nothing }}]{% if nothing %}x{% else %}y{% endif %}", "[]y"),
    ("{{ true }} {{ 1.0 }} {{ 0.1 + 0.2 }} {{ 1e6 }} {{ 7 // 2 }} {{ 7 / 2 }}", "true 1 0.3 1000000 3 3.5"),
    ("{{ item.flaws }} {{ idea }}", '["a", "b"] {"title": "T", "score": 8.0, "shout": "T"}'),
    ("{{ row }}", '{"key": "k", "item": {"title": "T", "score": 8.0, "shout": "T"}, "rank": 1}'),
    ("{{ colour }} {{ pair }}", 'red {"left": 1, "right": [2]}'),
    ('{{ item.flaws | join("; ") }} {{ [[1], 1.0] | join(",") }}', "a; b [1],1"),
    ('{{ "a" ~ 1.0 ~ item.flaws ~ nothing }}', 'a1["a", "b"]'),
    ("{{ {'ä': '<'} | tojson }}", '{"ä": "<"}'),
    ("{{ tasks.review }} {{ tasks.review | length }} {{ len(tasks.review) }}", '[{"flaws": ["x", "y"]}] 1 1'),
    ("{{ tasks.review['a'].flaws }} {% if not tasks.review['zz'] %}none{% endif %}", '["x", "y"] none'),
    ("{{ tasks.review.failed }}", '["f1"]'),
    ("{{ so_far(tasks.draft) }}", '["d1"]'),
    ("{{ top(tasks.contest, 1) | map(attribute='key') | list }} {{ top(tasks.contest, 9) | length }}", '["a"] 2'),
    ("{{ tasks.contest | map(attribute='item.title') | list }}", '["T", "u"]'),
    ('{{ flat(tasks.plan, "topics") }}', '["p", "q", "r"]'),
    ("{{ range(3) | list }} {{ 'x' * 3 }} {{ 2 ** 3 }} {{ 7 % 4 }}", "[0, 1, 2] xxx 8 3"),
    ("{{ item.zz | default('-') }} {% if item.zz is defined %}x{% endif %}{{ 'i' if nothing }}", "- "),
    ("{% set ns = namespace(n=0) %}{% for x in [1, 2] %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }}", "3"),
    ("{% for x in 'ab' %}{{ loop.index }}{{ loop.cycle('!', '?') }}{{ x }}{% endfor %}", "1!a2?b"),
    ("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m('y') }}", "<y>"),
    ("<b>{{ '<' }}</b>", "<b><</b>"),
    ("a\n", "a"),
    ("one\n{% for x in [1, 2] %}\n{{ x }}\n  {% set y = x %}\n  {% if y %}\n ({{ y }})\n  {% endif %}\n{% endfor %}\nz",
     "one\n1\n (1)\n2\n (2)\nz"),
    ("{# {% if %}\n#}a", "a"),
    ("{% raw %}\n{% if %}\n{% endraw %}", "\n{% if %}\n"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), RENDERED)
def test_rendered(text: str, expected: str) -> None:
    assert Template(text).render(SCOPE) == expected


NOT_THERE = [
    ("{{ item.titel }}", "item.titel: no field 'titel'; there are title, flaws, keys"),
    ("{{ idea.model_dump }}", "idea.model_dump: no field 'model_dump'; there are title, score, shout"),
    ("{{ open.__dict__ }}", "open.__dict__: no field '__dict__'; there are title, more"),
    ("{{ row.__class__ }}", "row.__class__: no field '__class__'; there are key, item, rank"),
    ("{{ pair._fields }}", "pair._fields: no field '_fields'; there are left, right"),
    ("{{ item.title.upper }}", "item.title.upper: text has no fields"),
    ("{{ item['__class__'] }}", "item[\"__class__\"]: no field '__class__'; there are title, flaws, keys"),
    ("{{ item.flaws.append }}", "item.flaws.append: a list has no fields"),
    ("{{ item.flaws[7] }}", "no element 7; there are 2"),
    ("{{ tasks.review.values }}", "tasks.review.values: no field 'values'; there are failed"),
    ("{{ nothing.x }}", "nothing.x: nothing has no fields"),
    ("{{ item.a.b.c }}", "item.a.b.c: no field 'a'; there are title, flaws, keys"),
    ("{% if item.zz %}{% endif %}", "item.zz: no field 'zz'; there are title, flaws, keys"),
    ("{% for x in item.zz %}{% endfor %}", "item.zz: no field 'zz'; there are title, flaws, keys"),
    ("{{ item.zz == 1 }}", "item.zz: no field 'zz'; there are title, flaws, keys"),
    ("{{ [item] | map(attribute='__class__') | list }}", "no field '__class__'; there are title, flaws, keys"),
    ("{{ [item, item] | sort(attribute='zz') }}", "no field 'zz'; there are title, flaws, keys"),
    ("{% for x in [1] %}{{ loop.__init__ }}{% endfor %}", "access to attribute '__init__'"),
    ("{% set ns = namespace() %}{{ ns.__class__ }}", "access to attribute '__class__'"),
    ("{% macro m() %}{% endmacro %}{{ m.__globals__ }}", "a Macro has no fields"),
    ("{{ self.__init__ }}", "a TemplateReference has no fields"),
]


@pytest.mark.parametrize(("text", "expected"), NOT_THERE)
def test_what_is_no_field_is_told(text: str, expected: str) -> None:
    with pytest.raises(TemplateProblem) as raised:
        Template(text).render(SCOPE)
    assert expected in raised.value.message
    assert raised.value.line == 1


REFUSED = [
    ("{{ ''.__class__.mro() }}", "there are no methods: mro(...)"),
    ("{{ item.title.upper() }}", "there are no methods: upper(...)"),
    ("{{ '{0.__class__}'.format(item) }}", "there are no methods: format(...)"),
    ("{{ '%s' | format(item) }}", "there is no filter 'format'"),
    ("{{ item | attr('x') }}", "there is no filter 'attr'"),
    ("{{ item | upperr }}", "there is no filter 'upperr'"),
    ("{{ item is strange }}", "there is no test 'strange'"),
    ("{{ lipsum() }}", "there is no function 'lipsum'"),
    ("{{ item() }}", "there is no function 'item'"),
    ("{{ range }}", "range is a function: write range(...)"),
    ("{% set top = 1 %}", "top is the name of a function"),
    ("{% include 'x' %}", "a template here reads no other templates"),
    ("{% extends 'x' %}", "a template here reads no other templates"),
    ("{% import 'x' as x %}", "a template here reads no other templates"),
    ("{{ so_far(item) }}", "so_far takes a task: so_far(tasks.name)"),
    ("{{ so_far(tasks['x']) }}", "so_far takes a task: so_far(tasks.name)"),
    ("{{ 'x' * 1000000 }}", "a repetition may have at most 100,000 parts"),
    ("{{ 9 ** 9999 }}", "9 ** 9999 is too large"),
    ("{{ '%9999999d' % 1 }}", "% is for numbers; join texts with ~"),
    ("{{ range(1000000) }}", "Range too big"),
    ("{{ 1 / 0 }}", "division by zero"),
    ("{{ item.title + 1 }}", "can only concatenate str"),
    ("{{ f }}", "a value of type function is not data"),
    ("{{ o }}", "a value of type object is not data"),
    ("{% for f in [f] %}{{ f() }}{% endfor %}", "not safely callable"),
    ("{{ nobody }}", "nobody: there is no such name here; there are f, item, o"),
    ("{{ " + "(" * 3000, "this is nested too deep"),
]


@pytest.mark.parametrize(("text", "expected"), REFUSED)
def test_refused(text: str, expected: str) -> None:
    scope = {"item": {"title": "t"}, "f": lambda: 1, "o": object()}
    with pytest.raises(TemplateProblem) as raised:
        Template(text).render(scope)
    assert expected in raised.value.message


SYNTAX = [
    ("a\nb {{ x", 2, "unexpected end of template"),
    ("a\n{% for x in y %}\nz", 3, "{% for %} is not closed"),
    ("{% if x %}\n\n{% endfor %}", 3, "{% if %} is not closed"),
    ("{{ a b }}", 1, "expected token 'end of print statement', got 'b'"),
    ("x\n\n{{ x | uper }}", 3, "there is no filter 'uper'"),
    ("{% wat %}", 1, "encountered unknown tag 'wat'"),
]


@pytest.mark.parametrize(("text", "line", "expected"), SYNTAX)
def test_mistakes_have_their_line(text: str, line: int, expected: str) -> None:
    with pytest.raises(TemplateProblem) as raised:
        Template(text, name="prompt")
    assert raised.value.line == line
    assert expected in raised.value.message
    assert str(raised.value).startswith(f"prompt, line {line}: ")


def test_lines_count_through_tags_that_stand_alone() -> None:
    with pytest.raises(TemplateProblem) as raised:
        Template("{% for x in [1] %}\n  {% if x %}\n\n{{ x.nope }}\n{% endif %}{% endfor %}").render({})
    assert raised.value.line == 4


def test_a_handle_says_itself_that_it_is_no_value() -> None:
    with pytest.raises(HandleMisuse):
        Template("{{ d }}").render({"d": Handle()})


REFERENCES = [
    ("{{ inputs.goal }} {{ sample + 1 }}", ["inputs.goal", "sample"]),
    ("{{ item.claim | upper }}", ["item.claim"]),
    ("{{ so_far(tasks.x) }} {{ tasks.x }}", ["so_far:tasks.x", "tasks.x"]),
    ("{{ tasks.review[h.key] }}", ["h.key", "tasks.review.[]"]),
    ("{{ tasks['a'].b }}", ['tasks.["a"].b']),
    ("{% for h in tasks.x %}{{ h.a.b }}{{ loop.index }}{% endfor %}{{ h }}", ["tasks.x", "tasks.x.[].a.b", "h"]),
    ("{% for h in top(tasks.c, 3) %}{% set r = tasks.v[h.key] %}{% if r %}{{ r.f }}{% endif %}{% endfor %}",
     ["tasks.c", "tasks.c.[].key", "tasks.v.[]", "tasks.v.[].f"]),
    ("{% for item in item.parts %}{{ item.x }}{% endfor %}", ["item.parts", "item.parts.[].x"]),
    ("{% set a = item.x if y else item.z %}{{ a.b }}", ["y", "item.x", "item.z"]),
    ("{% if x %}{% set a = p %}{% else %}{% set a = q %}{% endif %}{{ a.b }}", ["x", "p", "q"]),
    ("{% macro m(a) %}{{ a.b }}{{ c }}{% endmacro %}{{ m(d) }}", ["c", "d"]),
    ("{% with a = item.x %}{{ a.y }}{% endwith %}", ["item.x", "item.x.y"]),
    ("{{ tasks.x | sort(attribute='score') | first }}", ["tasks.x", "tasks.x.[].score", "tasks.x.[]"]),
    ("{{ (tasks.x | first).y }}", ["tasks.x", "tasks.x.[].y"]),
    ('{{ flat(tasks.p, "topics") }}', ["tasks.p.[].topics"]),
    ("{{ [x, {'k': y}] }} {{ z is defined }}", ["x", "y", "z"]),
    ("{# {{ x }} #}{% raw %}{{ y }}{% endraw %}", []),
    ("{% for a, b in pairs %}{{ a.x }}{% endfor %}", ["pairs"]),
    ("{% for a in xs if a.ok %}{% else %}{{ e }}{% endfor %}", ["xs", "xs.[].ok", "e"]),
    ("{% set b %}{{ x }}{% endset %}{{ b }}", ["x"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), REFERENCES)
def test_references(text: str, expected: list[str]) -> None:
    found = [("so_far:" if r.so_far else "") + ".".join((r.root, *r.path)) for r in Template(text).names()]
    assert list(dict.fromkeys(found)) == expected


def test_references_are_shown_as_they_are_written_and_know_their_line() -> None:
    text = "{% for h in top(tasks.c, 3) %}\n{{ h.item.x }}\n{% endfor %}{{ tasks.v[h].y[0] }}"
    assert [(str(r), r.line) for r in Template(text).names()] == [
        ("tasks.c", 1), ("h.item.x", 2), ("h", 3), ("tasks.v[...].y[0]", 3),
    ]  # fmt: skip


def test_functions_that_are_used() -> None:
    uses = Template("{{ top(tasks.c, 3) }} {{ len(x) }} {{ so_far(tasks.d) }}").uses()
    assert [(u.name, str(u.argument), u.constant) for u in uses] == [
        ("top", "tasks.c", 3), ("len", "x", None), ("so_far", "so_far(tasks.d)", None),
    ]  # fmt: skip


VALUES = [
    ("inputs.n", 2),
    ("inputs.n + 0.5", 2.5),
    ("item.flaws", ["a", "b"]),
    ("idea", IDEA),
    ("[1, 'a', none]", [1, "a", None]),
    ("item.flaws | map('upper')", ["A", "B"]),
    ("tasks.contest | map(attribute='key')", ["a", "b"]),
    ("'x' if nothing", None),
    ("inputs.n > 1 and not nothing", True),
    ("{'a': inputs.n}", {"a": 2}),
    ("nothing", None),
    ("so_far(tasks.draft)", ["d1"]),
    ("'a' ~ inputs.n", "a2"),
]


@pytest.mark.parametrize(("text", "expected"), VALUES)
def test_expressions_keep_types(text: str, expected: Any) -> None:
    value = Expression(text).evaluate(SCOPE)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ x }}", "an expression stands here, without braces"),
        ("hello world", "unexpected 'world' after the expression"),
        ("a +", "unexpected 'end of template'"),
        ("", "unexpected 'end of template'"),
        ("x.y()", "there are no methods: y(...)"),
    ],
)
def test_what_is_no_expression(text: str, expected: str) -> None:
    with pytest.raises(TemplateProblem) as raised:
        Expression(text)
    assert expected.lower() in raised.value.message.lower()


def test_a_missing_field_fails_an_expression_too() -> None:
    with pytest.raises(TemplateProblem, match=r"item\.zz: no field 'zz'"):
        Expression("item.zz").evaluate(SCOPE)


@pytest.mark.parametrize(
    ("text", "form", "whole"),
    [
        ("tasks.draft", "reference", "tasks.draft"),
        ("tasks.plan.topics", "reference", "tasks.plan.topics"),
        ("top(tasks.c, 3)", "top", "tasks.c"),
        ('flat(tasks.p, "t")', "flat", "tasks.p[].t"),
        ("so_far(tasks.d)", "so_far", "so_far(tasks.d)"),
        ("tasks.draft | sort(attribute='x')", "other", "tasks.draft"),
        ("len(tasks.d)", "len", "None"),
        ("1 + 2", "other", "None"),
    ],
)
def test_form_of_expressions(text: str, form: str, whole: str) -> None:
    expression = Expression(text)
    assert (expression.form, str(expression.whole)) == (form, whole)


def test_a_bare_expression_keeps_its_type_and_a_text_is_text() -> None:
    assert value_template(" {{ item.flaws }} ").evaluate(SCOPE) == ["a", "b"]
    assert value_template("{{ sample }}{{ sample }}").evaluate(SCOPE) == "00"
    assert value_template("n: {{ sample }}").evaluate(SCOPE) == "n: 0"
    with pytest.raises(TemplateProblem):
        value_template("{{ a b }}")


def test_equal_texts_are_equal_and_compiled_once() -> None:
    first, second = Template("{{ a }}"), Template("{{ a }}", name="n")
    assert first == second
    assert hash(first) == hash(second)
    assert first != Expression("a")
    assert first._compiled is second._compiled


def test_rendering_a_small_prompt_is_cheap() -> None:
    template = Template("Goal: {{ inputs.goal }}\nThis is proposal {{ sample + 1 }}; be unlike the obvious.\n")
    best = min(_seconds_of(template, times=500) for _ in range(5))
    assert best < 20e-6 * 5  # 2 to 5 us on a quiet machine; the bound allows for a loaded one


def _seconds_of(template: Template, *, times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        template.render(SCOPE)
    return (time.process_time() - began) / times
