/**
 * What becomes of recorded connections when policies change, for people and for programs.
 * @module
 */
import { protocolName } from "@weir/common";
import type { RuleSource } from "@weir/proto/policy";
import type { MapCost, Preview, PreviewChange } from "@weir/policy-engine/recorded";
import { table } from "../output.ts";
import { markdownCell, reasonOf, ruleList } from "./deciding_rules.ts";
import { count, timeText, type Traffic } from "./traffic.ts";

const NODES_SHOWN = 20;

/** What is shown. */
export interface PreviewAnswer {
  readonly preview: Preview;
  readonly traffic: Pick<Traffic, "coverage" | "facts">;
  /** What is doubtful about it. */
  readonly warnings: readonly string[];
}

/** A table of what changes, what does not in numbers, what the maps take, and what the record is. */
export function previewTable({ preview, traffic }: PreviewAnswer): string {
  const { changes } = preview;
  const rows = changes.map((one) => [
    one.effect.toUpperCase(),
    one.from,
    one.to,
    portText(one),
    count(one.connections),
    one.lastMs === -Infinity ? "-" : timeText(one.lastMs),
    becauseOf(one),
  ]);
  const head = changes.length === 0
    ? "No recorded connection is treated in another way\n"
    : table(["", "FROM", "TO", "PORT", "CONNECTIONS", "LAST", "BECAUSE OF"], rows);
  return `${head}\n${countsText(preview)}\n\n${mapsText(preview)}\n${traffic.coverage.join("\n")}\n`;
}

/** The same for a review. */
export function previewMarkdown({ preview, traffic, warnings }: PreviewAnswer): string {
  const rows = preview.changes.map((one) =>
    `| **${one.effect}** | ${markdownCell(one.from)} | ${markdownCell(one.to)} | ${portText(one)} | ${
      count(one.connections)
    } | ${markdownCell(becauseOf(one))} |\n`
  );
  const nodes = preview.maps.nodes.map((node) =>
    `| ${markdownCell(node.node)} | ${node.identities} | ${before(preview, node.entriesBefore)}${
      count(node.entries)
    } | ${sizeText(node.bytes)} |\n`
  );
  const tables = [
    rows.length === 0
      ? "No recorded connection is treated in another way\n"
      : `| | from | to | port | connections | because of |\n| --- | --- | --- | --- | --- | --- |\n${
        rows.join("")
      }`,
    nodes.length === 0
      ? ""
      : `| node | identities | map entries | memory |\n| --- | --- | --- | --- |\n${nodes.join("")}`,
  ];
  return `**${countsText(preview)}**\n\n${tables.filter((text) => text !== "").join("\n")}\n${
    [...warnings, ...traffic.coverage].map((line) => `- ${markdownCell(line)}\n`).join("")
  }`;
}

/** Everything. */
export function previewJson({ preview, traffic, warnings }: PreviewAnswer): string {
  const { changes, counts, maps, policies, basis } = preview;
  const time = (ms: number) => Number.isFinite(ms) ? timeText(ms) : null;
  const whole = {
    policies,
    basis,
    counts,
    changes: changes.map(({ firstMs, lastMs, rules, before, protocol, ...one }) => ({
      ...one,
      protocol: protocolName(protocol),
      first: time(firstMs),
      last: time(lastMs),
      rules: rules.map(ruleJson),
      before: before.map(ruleJson),
    })),
    maps: {
      ...maps,
      tooLarge: maps.tooLarge.map((one) => ({
        ...one,
        rules: one.rules.map(({ source, entries }) => ({ ...ruleJson(source), entries })),
      })),
    },
    record: traffic.facts,
    warnings,
  };
  return JSON.stringify(whole, null, 2) + "\n";
}

/** `80/TCP`, `ICMP type 8`; `all` of it for what knows no port. */
export function portText({ protocol, port }: Pick<PreviewChange, "protocol" | "port">): string {
  const name = protocolName(protocol);
  return protocol === 1 || protocol === 58 ? `${name} type ${port}` : `${port}/${name}`;
}

function countsText({ counts, basis }: Preview): string {
  const parts = [
    ...basis === "policies"
      ? [
        `${count(counts.closes)} recorded connections would be dropped that policies allow now`,
        `${count(counts.opens)} would pass that they deny now`,
      ]
      : [
        `${count(counts.closes)} connections would be dropped that passed`,
        `${count(counts.opens)} would pass that were dropped`,
      ],
    ...counts.judges > 0 ? [`${count(counts.judges)} would pass request by request, as L7 rules allow`] : [],
    `${count(counts.staysOpen)} pass and ${count(counts.staysClosed)} are dropped as before`,
    ...counts.unjudged > 0
      ? [`${count(counts.unjudged)} could not be judged: an end, or what denied them, is not known`]
      : [],
    ...basis === "policies" && counts.otherwise > 0
      ? [`${count(counts.otherwise)} were recorded with another verdict than the policies of now give`]
      : [],
  ];
  return parts.join("; ");
}

function becauseOf({ effect, before, rules, byDefault }: PreviewChange): string {
  const reason = reasonOf({ effect, before, now: rules });
  return byDefault && rules.length > 0 ? `no rule allows it: ${reason}` : reason;
}

function mapsText(preview: Preview): string {
  const { nodes, entriesMax } = preview.maps, isKnown = preview.basis === "policies";
  if (nodes.length === 0) return "Map entries: no node is named as the one that has a workload\n";
  const rows = nodes.slice(0, NODES_SHOWN).map((node) => [
    node.node,
    count(node.identities),
    `${isKnown ? `${count(node.entriesBefore)} -> ` : ""}${count(node.entries)}`,
    `${isKnown ? `${sizeText(node.bytesBefore)} -> ` : ""}${sizeText(node.bytes)}`,
  ]);
  const more = nodes.length > rows.length ? `and ${nodes.length - rows.length} nodes more\n` : "";
  return `${table(["NODE", "IDENTITIES", "MAP ENTRIES", "MEMORY"], rows)}${more}(at most ${
    count(entriesMax)
  } entries of one policy; of the workloads that are known here)\n`;
}

/** `12 KiB` */
function sizeText(bytes: number): string {
  return bytes < 1 << 20 ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / (1 << 20)).toFixed(1)} MiB`;
}

function before({ basis }: Preview, entries: number): string {
  return basis === "policies" ? `${count(entries)} → ` : "";
}

/** Why it must not be applied: maps that would not hold their policies. Undefined: they do. */
export function refusalText({ tooLarge, tooLargeCount, entriesMax }: MapCost): string | undefined {
  if (tooLargeCount === 0) return undefined;
  const lines = tooLarge.map(({ name, entries, error, rules }) =>
    error !== ""
      ? `  ${name}: ${error}`
      : `  ${name}: ${count(entries)} entries; most of them for ${
        rules.map(({ source, entries }) => `${ruleList([source])}: ${count(entries)}`).join(", ")
      }`
  );
  const more = tooLargeCount > tooLarge.length ? [`  and ${tooLargeCount - tooLarge.length} more`] : [];
  return [
    `Cannot apply: the maps of ${count(tooLargeCount)} ${
      tooLargeCount === 1 ? "policy" : "policies"
    } would not hold it, at most ${count(entriesMax)} entries`,
    ...lines,
    ...more,
  ].join("\n");
}

function ruleJson({ policy, path, file, line }: RuleSource) {
  return { policy, path, file, line };
}
