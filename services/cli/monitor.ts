/**
 * `weir monitor`: the datapath's raw events.
 *
 * @module
 */
import { MapRow } from "@weir/proto/datapath";
import { noWords, parse, texts } from "./args.ts";
import type { CommandContext } from "./context.ts";
import { followNodes } from "./observe/follow.ts";

function readMonitorArgs(args: string[]): string[] {
  const parsed = parse(args, { type: { type: "string", short: "t", multiple: true } }, "weir help monitor");
  noWords(parsed, "weir help monitor");
  return texts(parsed, "type");
}

/** Runs `weir monitor`. */
export async function monitorCommand(args: string[], context: CommandContext): Promise<number> {
  const query = { type: readMonitorArgs(args) };
  const many = context.nodes().length > 1;
  return await followNodes(context, async (client, signal, target) => {
    for await (const row of client.stream("/v1/events", MapRow, { query, signal })) {
      const fields = Object.entries(row.fields).map(([k, v]) => `${k}=${v}`).join(" ");
      context.io.out(`${many ? `[${target.node}] ` : ""}${fields}\n`);
    }
  });
}
