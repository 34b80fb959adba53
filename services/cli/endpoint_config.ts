/**
 * `weir endpoint config`: how one endpoint is treated, whatever its node does with others.
 *
 * @module
 */
import { readEnforcement } from "@weir/common/enforcement";
import type { Audit, Enforcement } from "@weir/proto/common";
import { parse } from "./args.ts";
import { type CommandContext, UsageError } from "./context.ts";
import { findEndpoint, putEndpoint } from "./placed_endpoint.ts";

const HINT = "weir help endpoint";

/** Runs the command: changes what is given, and shows how it is then. */
export async function endpointConfigCommand(args: string[], context: CommandContext): Promise<number> {
  const { positionals: [name, ...changes] } = parse(args, {}, HINT);
  if (name === undefined) {
    throw new UsageError("Say the endpoint: weir endpoint config NAME [enforcement=always] [audit=on]", HINT);
  }
  const row = await findEndpoint(context, name);
  let { endpoint } = row;
  for (const change of changes) {
    const [, key, value = ""] = /^([a-z]+)(?:=([a-z]*)|-)$/.exec(change) ?? [];
    if (key === "enforcement") endpoint = { ...endpoint, enforcement: readEndpointEnforcement(value) };
    else if (key === "audit") endpoint = { ...endpoint, audit: readAudit(value) };
    else {
      throw new UsageError(
        `Cannot read "${change}": expected enforcement=default|always|never or audit=on|off; KEY- for the node's own`,
        HINT,
      );
    }
  }
  if (changes.length > 0) await putEndpoint(context, row, endpoint);
  const { enforcement, audit, status } = endpoint, isNew = changes.length > 0;
  // What the node's own comes to is in the status once it is in force.
  const own = (text: string) => isNew ? `as ${row.node} has it` : `${text}, as ${row.node} has it`;
  context.io.out(
    `enforcement ${
      enforcement === "ENFORCEMENT_UNSPECIFIED" ? own(modeText(status?.enforcement)) : modeText(enforcement)
    }\naudit ${audit === "AUDIT_UNSPECIFIED" ? own(status?.audit ? "on" : "off") : audit.toLowerCase()}\n`,
  );
  return 0;
}

/** @throws {UsageError} */
function readAudit(word: string): Audit {
  const found = ({ "": "AUDIT_UNSPECIFIED", on: "ON", off: "OFF" } as const)[word];
  if (found === undefined) throw new UsageError(`Cannot read audit=${word}: expected on or off`, HINT);
  return found;
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
