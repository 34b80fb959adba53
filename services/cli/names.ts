/**
 * `weir names list|identities`: what the pods of each node know of names, and the identities that addresses have because of them.
 *
 * @module
 */
import { Endpoint, FqdnIdentity, KnownName } from "@weir/proto/endpoint";
import { parse, text } from "./args.ts";
import { answersOf, onEveryNode } from "./clients.ts";
import type { CommandContext } from "./context.ts";
import { type Column, outputForm, render } from "./output.ts";
import { unknownVerb } from "./suggestion.ts";

const HINT = "weir help names";

interface NameRow {
  readonly node: string;
  readonly endpoint: string;
  readonly known: KnownName;
}
interface IdentityRow {
  readonly node: string;
  readonly identity: FqdnIdentity;
}

const NAME_COLUMNS: Column<NameRow>[] = [
  { title: "NODE", cell: ({ node }) => node },
  { title: "ENDPOINT", cell: ({ endpoint }) => endpoint },
  { title: "NAME", cell: ({ known }) => known.query || "." },
  { title: "ADDRESSES", cell: ({ known }) => addressesText(known) },
  { title: "EXPIRES", cell: ({ known }) => expiresText(known) },
  {
    title: "IDENTITIES",
    cell: ({ known }) =>
      [...new Set(known.addresses.map(({ identity }) => identity).filter((identity) => identity !== 0))].join(
        " ",
      ),
  },
];
const IDENTITY_COLUMNS: Column<IdentityRow>[] = [
  { title: "NODE", cell: ({ node }) => node },
  { title: "ID", cell: ({ identity }) => identity.identity },
  { title: "PREFIX", cell: ({ identity }) => identity.basePrefix },
  { title: "ADDRESSES", cell: ({ identity }) => identity.addresses },
  { title: "LABELS", cell: ({ identity }) => identity.labels.join(" ") },
];

/** Runs the command. */
export async function namesCommand(args: string[], context: CommandContext): Promise<number> {
  const [verb, ...rest] = args;
  if (verb === "list" || verb === "ls") return await list(rest, context);
  if (verb === "identities") return await identities(rest, context);
  throw unknownVerb("names", verb, ["list", "identities"]);
}

async function list(args: string[], context: CommandContext): Promise<number> {
  const form = outputForm(text(parse(args, { output: { type: "string", short: "o" } }, HINT), "output"));
  const answers = answersOf(
    context,
    await onEveryNode(context, "endpoint-manager", async (client) => {
      const endpoints = await client.collection("endpoints", Endpoint).list();
      const { items } = await client.collection("names", KnownName).list();
      return { items, names: new Map(endpoints.items.map(({ name, status }) => [status?.id, name])) };
    }),
  );
  const rows = answers.flatMap(({ target: { node }, value: { items, names } }) =>
    items.map((known): NameRow => ({
      node,
      endpoint: names.get(known.endpoint) ?? `${known.endpoint}`,
      known,
    }))
  );
  rows.sort((a, b) =>
    compare(a.node, b.node) || compare(a.endpoint, b.endpoint) || compare(a.known.query, b.known.query)
  );
  if (rows.length === 0 && form === "table") context.io.out("No names\n");
  else {
    const whole = rows.map(({ node, endpoint, known }) => ({
      node,
      pod: endpoint,
      ...KnownName.toJson(known) as object,
    }));
    context.io.out(render(rows, NAME_COLUMNS, form, whole));
  }
  return isWhole(answers.length, context);
}

async function identities(args: string[], context: CommandContext): Promise<number> {
  const form = outputForm(text(parse(args, { output: { type: "string", short: "o" } }, HINT), "output"));
  const answers = answersOf(
    context,
    await onEveryNode(
      context,
      "endpoint-manager",
      (client) => client.collection("fqdnidentities", FqdnIdentity).list(),
    ),
  );
  const rows = answers.flatMap(({ target: { node }, value: { items } }) =>
    items.map((identity): IdentityRow => ({ node, identity }))
  );
  rows.sort((a, b) => compare(a.node, b.node) || a.identity.identity - b.identity.identity);
  if (rows.length === 0 && form === "table") context.io.out("No identities by names\n");
  else {
    const whole = rows.map(({ node, identity }) => ({ node, ...FqdnIdentity.toJson(identity) as object }));
    context.io.out(render(rows, IDENTITY_COLUMNS, form, whole));
  }
  return isWhole(answers.length, context);
}

/** 1 when some nodes did not answer. */
function isWhole(answers: number, context: CommandContext): number {
  return answers < context.nodes().length && context.flags.server === undefined ? 1 : 0;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The first ones, and how many more there are. */
function addressesText({ addresses }: KnownName): string {
  const shown = addresses.slice(0, 3).map(({ address }) => address).join(" ");
  return addresses.length > 3 ? `${shown} and ${addresses.length - 3} more` : shown;
}

/** When the last of them ends. */
function expiresText({ addresses }: KnownName): string {
  const last = Math.max(...addresses.map(({ expiresUnixS }) => expiresUnixS));
  const inUse = addresses.some((address) => address.inUse) ? ", in use" : "";
  return `${new Date(last * 1000).toISOString().slice(0, 19)}Z${inUse}`;
}
