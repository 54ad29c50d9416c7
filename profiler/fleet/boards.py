"""Which boards hold a device, and what they are: every one describes itself before anything is measured on it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from layerclock.errors import FleetError
from layerclock.profiler.fleet import board as on_board
from layerclock.profiler.fleet.cluster import MemberLostError
from layerclock.profiler.fleet.members import device_resource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed import Future

    from layerclock.interfaces import DeviceOptions
    from layerclock.profiler.fleet.board import Description
    from layerclock.profiler.fleet.cluster import Cluster, Member

__all__ = ["Board", "BoardFinder", "require_alike"]


@dataclass(frozen=True, slots=True)
class Board:
    """A member of the fleet, and how it describes itself."""

    member: Member
    described: Description


class BoardFinder:
    """Finds the boards that hold a device, of the names in ``only`` if there are any, and asks them what they are."""

    def __init__(self, cluster: Cluster, device: str, options: DeviceOptions, only: tuple[str, ...]) -> None:
        self.cluster, self.device, self.options, self.only = cluster, device, options, only
        self.resource = device_resource(device)

    def wait(self, last: Member | None = None) -> list[Board]:
        """Those that answer, at least one; a member that was lost a moment ago is only asked where there is no other."""

        def fits(members: list[Member]) -> list[Board]:
            members = [one for one in members if not self.only or one.name in self.only]
            fresh = [one for one in members if one != last]
            return self._described(fresh) or self._described([one for one in members if one == last])

        found: list[Board] = self.cluster.wait_for(self.resource, fits)
        return found

    def _described(self, members: Sequence[Member]) -> list[Board]:
        asked: list[tuple[Member, Future[Any]]] = []
        for member in members:
            with suppress(MemberLostError):
                asked.append((member, self.cluster.submit(on_board.describe, (self.device, self.options), self.resource, member)))
        boards, refused = [], []
        for member, future in asked:
            with suppress(MemberLostError):
                answer = self.cluster.result(future, self.resource, member, self.cluster.wait_s)
                if answer.state == "fine":
                    boards.append(Board(member, answer.value))
                else:
                    refused.append(f"{member.name}: {answer.message}")
        if refused and not boards:
            raise FleetError(f"no board can open {self.device}: {'; '.join(refused[:3])}", "mend that on the board, then run this again")
        for reason in refused:
            self.cluster.tell(f"not used: {reason}")
        return boards


def require_alike(boards: Sequence[Board], device: str) -> None:
    """Raise :class:`FleetError`, naming what differs, unless all boards are the same target."""
    first = boards[0]
    for other in boards[1:]:
        differing = first.described.target.differences(other.described.target)
        if differing:
            listed = "; ".join(f"{field}: {own!r} and {theirs!r}" for field, (own, theirs) in list(differing.items())[:3])
            raise FleetError(
                f"boards {first.member.name} and {other.member.name} are different targets as {device} ({listed})",
                "a table is of one target: name boards that are alike with --board, and measure the others into a folder of their own",
            )
