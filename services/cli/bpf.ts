/**
 * `weir bpf MAP list`: what the kernel holds now.
 *
 * @module
 */
import { MapDump, Program } from "@weir/proto/datapath";
import { DUMP_NAMES } from "@weir/proto/dumps";
import { noWords, parse, text } from "./args.ts";
import { answersOf, onEveryNode } from "./clients.ts";
import { type CommandContext, UsageError } from "./context.ts";
import { type Column, outputForm, render } from "./output.ts";
import { didYouMean } from "./suggestion.ts";

const HINT = "weir help bpf";

/** Runs the command. */
export async function bpfCommand(args: string[], context: CommandContext): Promise<number> {
  const [map, verb, ...rest] = args;
  const maps = `${DUMP_NAMES.join(", ")} or prog`;
  if (map === undefined) throw new UsageError(`Say which map: ${maps}`, HINT);
  if (map !== "prog" && !DUMP_NAMES.some((name) => name === map)) {
    throw new UsageError(
      `Unknown map "${map}"${didYouMean(map, [...DUMP_NAMES, "prog"])}: expected ${maps}`,
      HINT,
    );
  }
  if (verb !== "list" && verb !== "ls") {
    throw new UsageError(
      verb === undefined ? `Say what to do: weir bpf ${map} list` : `Unknown verb "${verb}": expected list`,
      HINT,
    );
  }
  const parsed = parse(rest, { output: { type: "string", short: "o" }, limit: { type: "string" } }, HINT);
  noWords(parsed, HINT);
  const form = outputForm(text(parsed, "output"));
  const limitText = text(parsed, "limit");
  const limit = limitText === undefined ? Infinity : Number(limitText);
  if (!(limit > 0)) throw new UsageError(`--limit is "${limitText}": expected a number of rows`, HINT);
  return map === "prog" ? await programs(context, form) : await dump(context, map, form, limit);
}

/** Columns of interest to who debugs the datapath itself: shown with `-o wide`, with what they mean. */
const INTERNAL: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  policy: {
    slot: "number of the policy's map",
    precedence: "which of several matching entries wins: the higher; denies stand above allows",
    cookie: "number of the rule behind the entry, as in the datapath's events; 0 is none",
    proxy: "whether the L7 proxy gets the traffic",
  },
  endpoint: {
    ifindex: "number of the device",
    slot: "number of the policy's map",
    wire: "identity before, which its packets to other nodes name until those know of the one now",
    hostMac: "hardware address of the node's end",
    mac: "hardware address of the workload's end",
  },
  lb: {
    serviceId: "number of the service's port",
    backendId: "number of the backend",
    entries: "backends, or rows of the maglev table",
  },
};

/** What the columns mean that only `-o wide` has. */
function legend(map: string, names: readonly string[]): string {
  const title = (name: string) => name.replace(/[A-Z]/g, " $&").toUpperCase();
  const lines = Object.entries(INTERNAL[map] ?? {}).filter(([name]) => names.includes(name))
    .map(([name, says]) => `  ${title(name)}: ${says}\n`);
  return lines.length === 0 ? "" : `Columns of the datapath:\n${lines.join("")}`;
}

type Fields = Record<string, string>;

async function dump(
  context: CommandContext,
  map: string,
  form: ReturnType<typeof outputForm>,
  limit: number,
): Promise<number> {
  const answers = answersOf(
    context,
    await onEveryNode(
      context,
      "datapath",
      (client) => client.call(`/v1/maps/${map}`, { method: "GET", response: MapDump }),
    ),
  );
  const rows = answers.flatMap(({ target, value }) =>
    value.rows.slice(0, limit).map(({ fields: { node: via, ...fields } }): Fields => ({
      node: target.node,
      ...fields,
      // The node behind an address is another than the one that was asked.
      ...(via === undefined ? {} : { via }),
    }))
  );
  if (form === "json" || form === "yaml") {
    const whole = answers.map(({ target, value }) => ({
      node: target.node,
      map: value.map,
      entries: value.entries,
      entriesMax: value.entriesMax,
      rows: value.rows.slice(0, limit).map((row) => row.fields),
    }));
    context.io.out(render(rows, [], form, whole));
    return 0;
  }
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const columns = names.map((name): Column<Fields> => ({
    title: name.replace(/[A-Z]/g, " $&").toUpperCase(),
    cell: (row) => row[name],
    wide: Object.hasOwn(INTERNAL[map] ?? {}, name),
  }));
  if (rows.length > 0) context.io.out(render(rows, columns, form));
  if (form === "wide") context.io.out(legend(map, names));
  for (const { target, value } of answers) {
    context.io.out(`${target.node}: ${value.entries} of ${value.entriesMax} entries\n`);
  }
  return 0;
}

const PROGRAM_COLUMNS: Column<{ node: string; program: Program }>[] = [
  { title: "NODE", cell: (row) => row.node },
  { title: "ID", cell: ({ program }) => program.id },
  { title: "NAME", cell: ({ program }) => program.name },
  { title: "ATTACHED TO", cell: ({ program }) => program.attachedTo },
  { title: "TYPE", cell: ({ program }) => program.attachType },
  { title: "VERDICT", cell: ({ program }) => program.verdict },
  { title: "VERIFIER", cell: ({ program }) => program.verifier },
  { title: "TAG", cell: ({ program }) => program.tag },
  { title: "VERIFIED TAG", cell: ({ program }) => program.verifiedTag, wide: true },
  { title: "OBJECT", cell: ({ program }) => program.object, wide: true },
  { title: "VISITS", cell: ({ program }) => program.visits, wide: true },
  { title: "TIME", cell: ({ program }) => `${(program.timeUs / 1000).toFixed(1)} ms`, wide: true },
  { title: "CACHED", cell: ({ program }) => program.cached, wide: true },
];

async function programs(context: CommandContext, form: ReturnType<typeof outputForm>): Promise<number> {
  const answers = answersOf(
    context,
    await onEveryNode(context, "datapath", (client) => client.collection("programs", Program).list()),
  );
  const rows = answers.flatMap(({ target, value }) =>
    value.items.map((program) => ({ node: target.node, program }))
  );
  const whole = rows.map(({ node, program }) => ({
    node,
    ...(Program.toJson(program) as Record<string, unknown>),
  }));
  context.io.out(render(rows, PROGRAM_COLUMNS, form, whole));
  return 0;
}
