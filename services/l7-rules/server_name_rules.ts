/** Rules about the name that a TLS client asks for. Patterns are those of DNS rules. @module */
import type { ServerNameRule } from "@weir/proto/l7";
import { canonicalName, compileName, compileNamePattern } from "./dns_rules.ts";
import { type CompiledRule, shown } from "./judgement.ts";
import type { ServerNameRequest } from "./request.ts";

/** @throws {RuleFault} */
export function compileServerNameRule({ cookie, name }: ServerNameRule): CompiledRule<ServerNameRequest> {
  const matches = name.includes("*") ? compileNamePattern(name) : compileName(name);
  return {
    cookie,
    conditions: [{
      // Who names nobody is in no pattern, `*` neither: that would be any server behind the address.
      holds: ({ serverName }) => canonicalName(serverName) !== "" && matches(serverName),
      lacks: ({ serverName }) =>
        serverName === ""
          ? "the client asks for no server by name"
          : `${shown(canonicalName(serverName))} is not ${shown(name)}`,
    }],
  };
}
