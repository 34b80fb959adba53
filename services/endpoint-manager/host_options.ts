/** What the agent says of the node as an endpoint. @module */
import { invalidArgument, LabelError, parseLabel } from "@weir/common";
import type { NodeFailsafe } from "@weir/proto/datapath";

const NODE_LABEL = /^[^\s:=;]+=[^\s;]*$/;

/** "KEY=VALUE". @throws {ProblemError} */
export function readNodeLabel(text: string): string {
  try {
    parseLabel(text);
    if (NODE_LABEL.test(text)) return text;
  } catch (error) {
    if (!(error instanceof LabelError)) throw error;
  }
  throw invalidArgument("Cannot take a label of the node", { found: text, expected: "KEY=VALUE" });
}

/** "KIND/DIRECTION/PROTOCOL/PORT/WHO". @throws {ProblemError} */
export function readFailsafe(text: string): NodeFailsafe {
  const [kind = "", direction, protocol = "", port, who = ""] = text.split("/");
  if ((direction !== "ingress" && direction !== "egress") || who === "") {
    throw invalidArgument("Cannot take a row of the fail-safe list", {
      found: text,
      expected: "KIND/ingress|egress/tcp|udp/PORT/ADDRESS|nodes|established",
    });
  }
  const nodes = who === "nodes", established = who === "established";
  return {
    kind,
    egress: direction === "egress",
    protocol,
    port: Number(port),
    address: nodes || established ? "" : who,
    nodes,
    established,
  };
}
