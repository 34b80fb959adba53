/**
 * `weir endpoint config`: how one endpoint is treated, whatever its node does with others.
 *
 * @module
 */
import { readEnforcement } from "@weir/common/enforcement";
import type { Enforcement } from "@weir/proto/common";
import { parse } from "./args.ts";
import { type CommandContext, UsageError } from "./context.ts";
import { findEndpoint, putEndpoint } from "./placed_endpoint.ts";

const HINT = "weir help endpoint";

/** Runs the command: changes what is given, and shows how it is then. */
export async function endpointConfigCommand(args: string[], context: CommandContext): Promise<number> {
  const { positionals: [name, ...changes] } = parse(args, {}, HINT);
  if (name === undefined) {
    throw new UsageError("Say the endpoint: weir endpoint config NAME [enforcement=always]", HINT);
  }
  const row = await findEndpoint(context, name);
  let { endpoint } = row;
  for (const change of changes) {
    const [, key, value] = /^([a-z]+)(?:=([a-z]*)|-)$/.exec(change) ?? [];
    if (key !== "enforcement") {
      throw new UsageError(
        `Cannot read "${change}": expected enforcement=default|always|never, or enforcement- for the node's own`,
        HINT,
      );
    }
    endpoint = { ...endpoint, enforcement: readEndpointEnforcement(value ?? "") };
  }
  if (changes.length > 0) await putEndpoint(context, row, endpoint);
  const { enforcement, status } = endpoint;
  context.io.out(
    enforcement === "ENFORCEMENT_UNSPECIFIED"
      ? `enforcement of ${row.node}${changes.length > 0 ? "" : `: ${modeText(status?.enforcement)}`}\n`
      : `enforcement ${modeText(enforcement)}\n`,
  );
  return 0;
}

/** A mode as it is written; "" is the node's. @throws {UsageError} for another word */
export function readEndpointEnforcement(word: string): Enforcement {
  if (word === "") return "ENFORCEMENT_UNSPECIFIED";
  try {
    return readEnforcement(word);
  } catch (error) {
    throw new UsageError(`${(error as Error).message}: expected default, always or never`, HINT);
  }
}

function modeText(mode: Enforcement = "DEFAULT"): string {
  return mode === "ENFORCEMENT_UNSPECIFIED" ? "default" : mode.toLowerCase();
}
