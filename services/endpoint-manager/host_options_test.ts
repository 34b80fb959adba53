import assert from "node:assert/strict";
import { readFailsafe, readNodeLabel } from "./host_options.ts";

Deno.test("readFailsafe() reads rows, and refuses what is none", () => {
  const row = {
    kind: "ssh",
    egress: false,
    protocol: "tcp",
    port: 22,
    address: "",
    nodes: false,
    established: true,
  };
  assert.deepEqual(readFailsafe("ssh/ingress/tcp/22/established"), row);
  assert.deepEqual(readFailsafe("control-plane/egress/tcp/7441/2001:db8::2"), {
    ...row,
    kind: "control-plane",
    egress: true,
    port: 7441,
    address: "2001:db8::2",
    established: false,
  });
  for (const text of ["", "ssh", "ssh/in/tcp/22/nodes", "ssh/ingress/tcp/22"]) {
    assert.throws(() => readFailsafe(text), /fail-safe list/, text);
  }
});

Deno.test("readNodeLabel() takes KEY=VALUE alone", () => {
  for (const text of ["tier=edge", "kubernetes.io/hostname=a", "empty="]) {
    assert.equal(readNodeLabel(text), text);
  }
  for (const text of ["tier", "=x", "k8s:tier=edge", "a b=c", "a=b;c"]) {
    assert.throws(() => readNodeLabel(text), /label of the node/, text);
  }
});
