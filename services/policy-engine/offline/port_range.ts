/**
 * Ports of protocols, as people write them: `80/TCP`, `8000-8999/UDP`, `all TCP`, `all`.
 * @module
 */
import { PROTOCOL_NUMBERS, protocolName } from "@weir/common";

/** Ports of one protocol, first and last included (ICMP: types). */
export interface PortRange {
  readonly protocol: number;
  readonly first: number;
  readonly last: number;
}

/** The protocols that are told apart. */
export const PROTOCOLS: readonly number[] = Object.values(PROTOCOL_NUMBERS);
export const PORT_MAX = 65_535;

/** Joins ranges that touch; sorted. */
export function joinRanges(ranges: Iterable<PortRange>): PortRange[] {
  const joined: PortRange[] = [];
  for (const range of [...ranges].sort((a, b) => a.protocol - b.protocol || a.first - b.first)) {
    const before = joined.at(-1);
    if (before === undefined || before.protocol !== range.protocol || before.last + 1 < range.first) {
      joined.push(range);
    } else if (before.last < range.last) joined[joined.length - 1] = { ...before, last: range.last };
  }
  return joined;
}

/** Ranges for people, sorted and joined: `all`, `80/TCP, 53/UDP`, `all but 80/TCP`; "" for none. */
export function formatRanges(ranges: readonly PortRange[]): string {
  if (ranges.length === 0) return "";
  const missing = withoutRanges(ranges);
  if (missing.length === 0) return "all";
  const isMost = missing.length < ranges.length;
  return `${isMost ? "all but " : ""}${(isMost ? missing : ranges).map(formatRange).join(", ")}`;
}

/** Every port that is in none of the ranges, which are sorted and joined. */
function withoutRanges(ranges: readonly PortRange[]): PortRange[] {
  return PROTOCOLS.flatMap((protocol) => {
    const left: PortRange[] = [];
    let first = 0;
    for (const range of ranges.filter((range) => range.protocol === protocol)) {
      if (first < range.first) left.push({ protocol, first, last: range.first - 1 });
      first = range.last + 1;
    }
    if (first <= PORT_MAX) left.push({ protocol, first, last: PORT_MAX });
    return left;
  });
}

function formatRange({ protocol, first, last }: PortRange): string {
  if (first === 0 && last === PORT_MAX) return `all ${protocolName(protocol)}`;
  return `${first === last ? first : `${first}-${last}`}/${protocolName(protocol)}`;
}

/** Reads `80/TCP`, `80` (TCP), `8000-8999/UDP`; undefined for anything else. */
export function parseRange(text: string): PortRange | undefined {
  const [, from, to = from, name = "TCP"] = /^(\d{1,5})(?:-(\d{1,5}))?(?:\/([A-Za-z0-9]+))?$/.exec(text) ??
    [];
  if (from === undefined) return undefined;
  const protocol = PROTOCOL_NUMBERS[name.toUpperCase()], first = Number(from), last = Number(to);
  if (protocol === undefined || first > last || last > PORT_MAX) return undefined;
  return { protocol, first, last };
}
