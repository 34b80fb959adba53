/**
 * `weir endpoint pool list|set|delete`: named pools of addresses, of which nodes get blocks for their endpoints.
 *
 * @module
 */
import { PodPool } from "@weir/proto/identity";
import { parse, text, texts } from "./args.ts";
import { clientOf } from "./clients.ts";
import { type CommandContext, UsageError } from "./context.ts";
import { type Column, outputForm, render } from "./output.ts";
import { unknownVerb } from "./suggestion.ts";

const HINT = "weir help endpoint";

const COLUMNS: Column<PodPool>[] = [
  { title: "NAME", cell: (pool) => pool.name },
  { title: "IPV4", cell: ({ cidrsV4, lengthV4 }) => familyText(cidrsV4, lengthV4) },
  { title: "IPV6", cell: ({ cidrsV6, lengthV6 }) => familyText(cidrsV6, lengthV6) },
  { title: "BLOCKS-V4", cell: ({ status }) => `${status?.usedV4 ?? 0}/${status?.blocksV4 ?? 0}` },
  { title: "BLOCKS-V6", cell: ({ status }) => `${status?.usedV6 ?? 0}/${status?.blocksV6 ?? 0}` },
];

/** Runs `weir endpoint pool VERB`. */
export async function endpointPoolCommand(args: string[], context: CommandContext): Promise<number> {
  const [verb, ...rest] = args;
  const verbs: Record<string, (args: string[], context: CommandContext) => Promise<number>> = {
    list,
    set,
    delete: remove,
  };
  const name = { ls: "list", remove: "delete" }[verb ?? ""] ?? verb ?? "";
  if (!Object.hasOwn(verbs, name)) throw unknownVerb("endpoint pool", verb, Object.keys(verbs));
  return await verbs[name](rest, context);
}

async function list(args: string[], context: CommandContext): Promise<number> {
  const form = outputForm(text(parse(args, { output: { type: "string", short: "o" } }, HINT), "output"));
  using client = closing(context);
  const { items } = await client.pools.list();
  items.sort((a, b) => a.name < b.name ? -1 : 1);
  if (items.length === 0 && form === "table") context.io.out("No pools beside the nodes' own\n");
  else context.io.out(render(items, COLUMNS, form, items.map((item) => PodPool.toJson(item))));
  return 0;
}

async function set(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {
    cidr: { type: "string", multiple: true },
    "length-v4": { type: "string" },
    "length-v6": { type: "string" },
  }, HINT);
  const [name, ...more] = parsed.positionals, cidrs = texts(parsed, "cidr").flatMap((one) => one.split(","));
  if (name === undefined || more.length > 0) throw new UsageError("Say the name of one pool", HINT);
  if (cidrs.length === 0) throw new UsageError("Say the pool's prefixes: --cidr PREFIX", HINT);
  const isV6 = (cidr: string) => cidr.includes(":");
  using client = closing(context);
  await client.pools.put(name, {
    cidrsV4: cidrs.filter((cidr) => !isV6(cidr)),
    lengthV4: cidrs.every(isV6) ? 0 : lengthOf(text(parsed, "length-v4") ?? "28"),
    cidrsV6: cidrs.filter(isV6),
    lengthV6: cidrs.some(isV6) ? lengthOf(text(parsed, "length-v6") ?? "124") : 0,
  });
  context.io.out(`pool ${name} set\n`);
  return 0;
}

async function remove(args: string[], context: CommandContext): Promise<number> {
  const { positionals } = parse(args, {}, HINT);
  if (positionals.length === 0) throw new UsageError("Say the names of pools", HINT);
  using client = closing(context);
  let missing = 0;
  for (const name of positionals) {
    if (await client.pools.delete(name)) context.io.out(`pool ${name} deleted\n`);
    else {missing++,
        context.io.err(`weir: Cannot find pool ${JSON.stringify(name)}: see weir endpoint pool list\n`);}
  }
  return missing === 0 ? 0 : 1;
}

function closing(context: CommandContext) {
  const client = clientOf(context, "identity-allocator");
  return { pools: client.collection("podpools", PodPool), [Symbol.dispose]: () => client.close() };
}

function lengthOf(word: string): number {
  if (/^\d{1,3}$/.test(word)) return Number(word);
  throw new UsageError(`A block's length is "${word}": expected a number, such as 28`, HINT);
}

function familyText(cidrs: readonly string[], length: number): string {
  return cidrs.length === 0 ? "-" : `${cidrs.join(",")} by /${length}`;
}
