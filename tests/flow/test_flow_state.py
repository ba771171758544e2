"""The state machine of a graph: a table of its moves, and random graphs that grow, fail and are cut short."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh.errors import ErrorInfo, InvalidTransition
from agentmesh.flow.graph import FINAL, Collection, Node, Require
from agentmesh.flow.state import TRANSITIONS, Complete, Ended, FlowState, Instruction, Moved, Ready
from agentmesh.outcome import Address, Outcome, State

STATES: list[State] = ["done", "failed", "skipped", "cancelled"]
ANY = Require.of("any")


def outcome(node: Node, state: State = "done") -> Outcome:
    error = None if state == "done" else ErrorInfo("internal", state)
    return Outcome(node.address.task, node.address.key, state=state, error=error)


def names(instructions: list[Instruction], kind: type) -> list[str]:
    return [str(one.node.address) for one in instructions if not isinstance(one, Complete) and isinstance(one, kind)]


class Graph:
    """A state machine, checked after every step, and all that it ever said."""

    def __init__(self) -> None:
        self.state = FlowState()
        self.ended: Counter[str] = Counter()
        self.complete: Counter[str] = Counter()
        self.ready: dict[str, Node] = {}

    def follow(self, instructions: list[Instruction]) -> list[Instruction]:
        for one in instructions:
            match one:
                case Ready(node):
                    self.ready[str(node.address)] = node
                case Ended(node):
                    self.ended[str(node.address)] += 1
                case Complete(collection):
                    self.complete[collection.name] += 1
        self.state.validate()
        return instructions

    def add(
        self,
        name: str,
        *needs: Node,
        reads: tuple[tuple[Collection, Require], ...] = (),
        joins: Collection | None = None,
    ) -> Node:
        node, instructions = self.state.add(Address(name), None, needs=needs, requires=reads, collection=joins)
        self.follow(instructions)
        return node

    def start(self, node: Node) -> None:
        del self.ready[str(node.address)]
        self.state.start(node)
        self.state.validate()

    def end(self, node: Node, state: State = "done") -> list[Instruction]:
        if node.state == "ready":
            self.start(node)
        return self.follow(self.state.end(node, outcome(node, state)))


# --- the table


def in_state(state: str) -> tuple[FlowState, Node]:
    """A machine with one task in this state."""
    graph = Graph()
    if state == "waiting":
        return graph.state, graph.add("b", graph.add("a"))
    node = graph.add("a")
    if state != "ready":
        graph.start(node)
    if state in FINAL:
        graph.end(node, state)  # type: ignore[arg-type]
    assert node.state == state
    return graph.state, node


@pytest.mark.parametrize(("state", "next_state"), list(product(TRANSITIONS, TRANSITIONS)))
def test_what_is_not_in_the_table_raises_with_the_story(state: str, next_state: str) -> None:
    machine, node = in_state(state)
    if next_state in TRANSITIONS[state]:
        machine._move(node, next_state)
        assert node.state == next_state
        return
    with pytest.raises(InvalidTransition, match=f"cannot go from {state} to {next_state}") as raised:
        machine._move(node, next_state)
    assert any(state in line for line in raised.value.story)
    assert node.state == state
    machine.validate()


def test_final_states_lead_nowhere_and_all_others_somewhere() -> None:
    assert {state for state, next_states in TRANSITIONS.items() if not next_states} == FINAL


def test_an_address_is_taken_once_and_a_closed_collection_takes_nobody() -> None:
    graph = Graph()
    group = graph.state.open_collection("a")
    graph.add("a", joins=group)
    with pytest.raises(InvalidTransition, match="a is in the graph already"):
        graph.add("a")
    with pytest.raises(InvalidTransition, match="exists already"):
        graph.state.open_collection("a")
    graph.follow(graph.state.close(group))
    assert graph.follow(graph.state.close(group)) == []
    with pytest.raises(InvalidTransition, match="b cannot join a: it is closed"):
        graph.add("b", joins=group)


def test_validate_tells_whose_count_is_wrong() -> None:
    graph = Graph()
    waiting = graph.add("b", graph.add("a"))
    waiting.missing = 2
    with pytest.raises(InvalidTransition, match="b waits for 2, not 1") as raised:
        graph.state.validate()
    assert "it needs a, which is ready" in raised.value.story


# --- what depends on what


@pytest.mark.parametrize("state", sorted(FINAL - {"done"}))
def test_only_what_depends_on_it_is_skipped(state: State) -> None:
    graph = Graph()
    bad, good = graph.add("bad"), graph.add("good")
    child, other = graph.add("child", bad, good), graph.add("other", good)
    grandchild = graph.add("grandchild", child, other)
    graph.end(bad, state)
    assert (child.state, grandchild.state, good.state, other.state) == ("skipped", "skipped", "ready", "waiting")
    assert child.outcome is not None
    assert grandchild.outcome is not None
    assert child.outcome.error == ErrorInfo("dependency", f"bad was {state}")
    assert grandchild.outcome.error == ErrorInfo("dependency", "child was skipped")
    graph.end(good)
    assert other.state == "ready"
    late = graph.add("late", bad)
    assert late.state == "skipped"
    assert graph.ended == {"bad": 1, "child": 1, "grandchild": 1, "good": 1, "late": 1}


@pytest.mark.parametrize(
    ("require", "done", "total", "enough"),
    [
        ("any", 0, 0, True), ("any", 0, 3, False), ("any", 1, 3, True),
        ("all", 0, 0, True), ("all", 2, 3, False), ("all", 3, 3, True),
        ("95%", 18, 20, False), ("95%", 19, 20, True), ("95%", 94, 100, False), ("95%", 95, 100, True),
        ("0%", 0, 3, True), ("0%", 0, 0, True), (0.5, 1, 2, True), (0.5, 0, 2, False), ("33%", 1, 3, True),
    ],
)  # fmt: skip
def test_how_much_of_a_collection_is_enough(require: str | float, done: int, total: int, enough: bool) -> None:
    graph = Graph()
    group = graph.state.open_collection("items")
    items = [graph.add(f"item{n}", joins=group) for n in range(total)]
    reader = graph.add("reader", reads=((group, Require.of(require)),))
    for number, item in enumerate(items):
        graph.end(item, "done" if number < done else "failed")
        assert reader.state == "waiting"
    assert graph.complete == {}
    graph.follow(graph.state.close(group))
    assert graph.complete == {"items": 1}
    assert reader.state == ("ready" if enough else "skipped")
    assert graph.add("late", reads=((group, Require.of(require)),)).state == reader.state
    if not enough:
        assert reader.outcome is not None
        assert str(reader.outcome.error) == f"dependency: {done} of {total} of items succeeded, {group_words(require)}"


def group_words(require: str | float) -> str:
    return f"{Require.of(require)} required"


@pytest.mark.parametrize("text", ["some", "101%", "-1%", 1.5, "nan%", ""])
def test_require_says_what_it_can_be(text: str | float) -> None:
    with pytest.raises(ValueError):
        Require.of(text)


def test_several_handles_form_a_group_with_repeats_and_ended_ones() -> None:
    graph = Graph()
    a, b = graph.add("a"), graph.add("b")
    graph.end(a)
    group = graph.state.group("both", [a, b, b])
    reader = graph.add("reader", reads=((group, Require.of("all")),))
    assert reader.state == "waiting"
    graph.end(b)
    assert (group.ended, group.succeeded, reader.state) == (3, 3, "ready")
    assert graph.state.group("none", []).complete


def test_a_need_named_twice_counts_twice() -> None:
    graph = Graph()
    a = graph.add("a")
    twice = graph.add("b", a, a)
    graph.end(a)
    assert twice.state == "ready"


def test_who_reads_a_collection_and_needs_another_of_its_readers_is_skipped_with_that() -> None:
    """One end reaches both at once: the reader that it makes ready must hear of the one that it skips first."""
    graph = Graph()
    group = graph.state.open_collection("c")
    member = graph.add("member", joins=group)
    picky = graph.add("picky", reads=((group, Require.of("all")),))
    tolerant = graph.add("tolerant", picky, reads=((group, Require.of("0%")),))
    graph.follow(graph.state.close(group))
    graph.end(member, "failed")
    assert (picky.state, tolerant.state) == ("skipped", "skipped")
    assert tolerant.outcome is not None
    assert str(tolerant.outcome.error) == "dependency: picky was skipped"


# --- order


def test_what_others_wait_for_goes_first_also_through_collections() -> None:
    graph = Graph()
    group = graph.state.open_collection("items")
    lone, early = graph.add("lone"), graph.add("early", joins=group)
    reader = graph.add("reader", reads=((group, ANY),))
    graph.add("last", reader)
    late = graph.add("late", joins=group)
    assert (lone.path, early.path, late.path, reader.path) == (0, 2, 2, 1)
    assert sorted([lone, late, early], key=lambda node: node.order) == [early, late, lone]


def test_it_is_told_when_the_place_of_a_ready_task_changes() -> None:
    graph = Graph()
    first = graph.add("first")
    graph.state.add(Address("unrelated"), None)
    _, instructions = graph.state.add(Address("second"), None, needs=[first])
    assert names(instructions, Moved) == ["first"]
    assert names(instructions, Ready) == []
    assert first.order == (0.0, -1.0, 0)


def test_priority_is_before_path_and_path_before_age() -> None:
    graph = FlowState()
    nodes = [
        graph.add(Address(f"t{n}"), None, priority=p, path=w)[0]
        for n, (p, w) in enumerate([(0, 9), (1, 0), (1, 3), (1, 3)])
    ]
    assert [node.id for node in sorted(nodes, key=lambda node: node.order)] == [2, 3, 1, 0]


@pytest.mark.parametrize("backwards", [False, True])
def test_a_chain_of_5000_in_one_go(backwards: bool) -> None:
    """Failing at its head it is skipped to its end; done, it moves on one by one. No recursion in depth."""
    graph = FlowState()
    chain: list[Node] = []
    for number in range(5000):
        node, _ = graph.add(Address(f"t{number}"), None, needs=chain[-1:])
        chain.append(node)
    graph.validate()
    graph.start(chain[0])
    instructions = graph.end(chain[0], outcome(chain[0], "failed" if backwards else "done"))
    if backwards:
        assert len(instructions) == 5000
        assert graph.statistics().skipped == 4999
    for node in chain[1:] if not backwards else []:
        graph.start(node)
        graph.end(node, outcome(node))
    assert graph.statistics().unfinished == 0
    graph.validate()


def test_a_task_that_joins_with_its_end_counts_like_any_other() -> None:
    graph = Graph()
    field = graph.state.open_collection("field")
    readers = [graph.add(name, reads=((field, Require.of(need)),)) for name, need in (("any", "any"), ("all", "all"))]
    for end in (Outcome("a"), Outcome("b", state="failed")):
        node, said = graph.state.add_ended(Address(end.task), end, collection=field)
        assert (graph.follow(said), node.state, node.recalled) == ([Ended(node)], end.state, True)
    after = graph.add("after", graph.state.nodes[Address("a")])
    assert after.state == "ready"
    graph.follow(graph.state.close(field))
    assert [reader.state for reader in readers] == ["ready", "skipped"]
    assert field.recalled
    with pytest.raises(InvalidTransition, match="a is in the graph already"):
        graph.state.add_ended(Address("a"), Outcome("a"))


@pytest.mark.parametrize("state", ["done", "failed"])
def test_an_outcome_goes_with_its_last_handle_and_is_not_missed(state: State) -> None:
    graph = Graph()
    node = graph.add("a")
    for _ in range(2):
        node.take()
    graph.end(node, state)
    there = []
    for _ in range(2):
        node.drop()
        there.append(node.outcome is not None)
    assert (there, node.state) == ([True, False], state)
    reader = graph.add("b", node)
    assert reader.state == ("ready" if state == "done" else "skipped")
    if reader.outcome is not None:
        assert reader.outcome.error is not None
        assert reader.outcome.error.message == "a was failed"


def test_one_task_after_20000_others_costs_no_more_than_they_do() -> None:
    graph = FlowState()
    many = [graph.add(Address("a", str(n)), None)[0] for n in range(20_000)]
    last, _ = graph.add(Address("last"), None, needs=many)
    for node in many:
        graph.start(node)
        graph.end(node, outcome(node))
    assert last.state == "ready"


# --- random graphs


class Plan:
    """A random graph that is built, started, ended, and closed in random order; and how it must come out."""

    def __init__(self, rng: random.Random, size: int) -> None:
        self.rng = rng
        self.size = size
        self.graph = Graph()
        self.open = [self.graph.state.open_collection(f"c{n}") for n in range(3)]
        self.collections = list(self.open)
        self.nodes: list[Node] = []
        self.level: dict[Node, int] = {}  # readers of collection n are above n: nothing waits for itself
        self.wanted: dict[Node, State] = {}
        self.running: list[Node] = []

    def add(self) -> None:
        rng = self.rng
        needs = rng.sample(self.nodes, min(len(self.nodes), rng.choice([0, 0, 1, 1, 2, 3])))
        read = [group for group in self.collections if rng.random() < 0.15]
        level = max([self.level[need] for need in needs] + [int(group.name[1:]) + 1 for group in read], default=0)
        can_join = [group for group in self.open if int(group.name[1:]) >= level]
        joins = rng.choice(can_join) if can_join and rng.random() < 0.7 else None
        reads = tuple((group, Require.of(rng.choice(["any", "all", "95%", "0%", "50%"]))) for group in read)
        node = self.graph.add(f"t{len(self.nodes)}", *needs, reads=reads, joins=joins)
        self.nodes.append(node)
        self.level[node] = level
        self.wanted[node] = rng.choices(STATES, [6, 2, 1, 1])[0]

    def step(self) -> bool:
        """One random event; False if there is none left."""
        ready = list(self.graph.ready.values())
        acts = [self.add] * (len(self.nodes) < self.size) + [self.close] * bool(self.open)
        acts += [self.start] * (2 * bool(ready)) + [self.end] * (2 * bool(self.running))
        if not acts:
            return False
        self.rng.choice(acts)()
        return True

    def close(self) -> None:
        group = self.open.pop(self.rng.randrange(len(self.open)))
        self.graph.follow(self.graph.state.close(group))

    def start(self) -> None:
        node = self.rng.choice(list(self.graph.ready.values()))
        self.graph.start(node)
        self.running.append(node)

    def end(self) -> None:
        node = self.running.pop(self.rng.randrange(len(self.running)))
        self.graph.end(node, self.wanted[node])

    def expected(self, node: Node) -> str:
        """Skipped if something that it needs did not succeed; else what it was going to be."""
        if any(need.state != "done" for need in node.needs):
            return "skipped"
        for group, require in node.requires:
            if not require.met(sum(one.state == "done" for one in group.members), len(group.members)):
                return "skipped"
        return self.wanted[node]


graphs = st.builds(Plan, st.randoms(use_true_random=False), st.integers(1, 25))


@given(graphs)
@settings(max_examples=120, deadline=None)
def test_every_task_ends_once_as_its_inputs_say(plan: Plan) -> None:
    while plan.step():
        pass
    assert plan.graph.state.statistics().unfinished == 0
    assert {node: node.state for node in plan.nodes} == {node: plan.expected(node) for node in plan.nodes}
    assert plan.graph.ended == {str(node.address): 1 for node in plan.nodes}
    assert plan.graph.complete == {group.name: 1 for group in plan.collections}
    for node in plan.nodes:
        states = [{"w": 0, "y": 1, "r": 2}.get(letter, 3) for letter in node.history]
        assert all(before < after for before, after in pairwise(states)), node.history


@given(graphs, st.integers(0, 60), st.booleans())
@settings(max_examples=80, deadline=None)
def test_a_run_that_is_cut_short_leaves_a_sound_state(plan: Plan, steps: int, by_stop: bool) -> None:
    """What ran is cancelled, or put back where a stop let nothing start; nothing else changes its state."""
    for _ in range(steps):
        if not plan.step():
            break
    before = {node: node.state for node in plan.nodes if node not in plan.running}
    for node in plan.running:
        (plan.graph.state.put_back if by_stop else plan.graph.state.cancel)(node)
        plan.graph.state.validate()
        assert node.state == ("ready" if by_stop else "cancelled")
        assert (node.outcome is None) == by_stop
    assert before == {node: node.state for node in plan.nodes if node not in plan.running}
    statistics = plan.graph.state.statistics()
    assert statistics.running == 0
    assert statistics.unfinished == sum(not node.ended for node in plan.nodes)
