import assert from "node:assert/strict";
import { agentFlags } from "./daemon.ts";

Deno.test("agentFlags() gives an option to every node or to the one it names", () => {
  const options = ["masquerade", "node-1:zone=a:b", "zone=c"];
  assert.deepEqual(agentFlags(options, "node-1"), ["--masquerade", "--zone=a:b", "--zone=c"]);
  assert.deepEqual(agentFlags(options, "node-2"), ["--masquerade", "--zone=c"]);
  for (const wrong of ["--masquerade", "", "node-1:", "Node:x"]) {
    assert.throws(() => agentFlags([wrong], "node-1"), /Cannot take the agent option/);
  }
});
