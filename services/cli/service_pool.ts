/**
 * `weir service pool list|delete`: addresses for services of type LoadBalancer.
 *
 * @module
 */
import type { WeirClient } from "@weir/client";
import { AddressPool } from "@weir/proto/loadbalancer";
import { parse, text } from "./args.ts";
import { type CommandContext, UsageError } from "./context.ts";
import { type Column, outputForm, render } from "./output.ts";

const HINT = "weir help service";

const COLUMNS: Column<AddressPool>[] = [
  { title: "NAME", cell: (pool) => pool.name },
  { title: "RANGES", cell: (pool) => pool.ranges.join(",") },
  { title: "USED", cell: (pool) => pool.status?.used ?? 0 },
  { title: "TOTAL", cell: (pool) => pool.status?.total ?? 0 },
  { title: "SERVICES", cell: (pool) => pool.serviceSelector.join(",") || "every" },
  { title: "STATE", cell: (pool) => stateText(pool) },
];

/** Runs `weir service pool VERB`. Pools are applied as services are: `weir service apply -f`. */
export async function poolCommand(
  args: string[],
  context: CommandContext,
  client: WeirClient,
): Promise<number> {
  const [verb, ...rest] = args;
  const shows = verb === "list" || verb === "ls";
  const parsed = parse(rest, shows ? { output: { type: "string", short: "o" } } : {}, HINT);
  const pools = client.collection("addresspools", AddressPool);
  if (shows) {
    const form = outputForm(text(parsed, "output"));
    const { items } = await pools.list();
    items.sort((a, b) => a.name < b.name ? -1 : 1);
    if (items.length === 0 && form === "table") context.io.out("No address pools\n");
    else context.io.out(render(items, COLUMNS, form, items.map((item) => AddressPool.toJson(item))));
    return 0;
  }
  if (verb === "delete" || verb === "remove") {
    if (parsed.positionals.length === 0) throw new UsageError("Say the names of pools", HINT);
    let missing = 0;
    for (const name of parsed.positionals) {
      if (await pools.delete(name)) context.io.out(`addresspool/${name} deleted\n`);
      else missing++, context.io.err(`weir: Cannot find address pool ${JSON.stringify(name)}\n`);
    }
    return missing === 0 ? 0 : 1;
  }
  throw new UsageError(`Unknown verb "${verb ?? ""}" of service pool: expected list or delete`, HINT);
}

function stateText(pool: AddressPool): string {
  if (pool.disabled) return "disabled";
  return pool.status?.conditions.find(({ ok }) => !ok)?.message ?? "in use";
}
