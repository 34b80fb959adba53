import assert from "node:assert/strict";
import { compileFieldMask, MASK_PATHS_MAX } from "./field_mask.ts";
import { Flow } from "./gen/flow.ts";

const flow = Flow.create({
  uuid: "u",
  verdict: "DROPPED",
  source: { identity: 7, labels: ["k8s:app=x"], pod_name: "p" },
  l4: { TCP: { source_port: 1, destination_port: 2 } },
});
const masked = (...paths: string[]) => compileFieldMask<Flow>("flow.Flow", paths)(flow);

Deno.test("compileFieldMask() keeps what is named, whole or in part", () => {
  assert.deepEqual(masked("uuid", "source.identity"), { uuid: "u", source: { identity: 7 } });
  assert.deepEqual(masked("source.identity", "source"), { source: flow.source });
  assert.deepEqual(masked("source", "source.identity"), { source: flow.source });
  assert.deepEqual(masked("l4.TCP.destination_port", "l7"), { l4: { TCP: { destination_port: 2 } } });
  assert.equal(Flow.decode(Flow.encode(masked("uuid") as Flow)).uuid, "u");
});

Deno.test("compileFieldMask() refuses paths that name nothing, and too many", () => {
  for (const path of ["", "nothing", "uuid.x", "source.workloads.name", "source..labels", "constructor"]) {
    assert.throws(() => masked(path), RangeError, path);
  }
  assert.throws(() => masked(...Array(MASK_PATHS_MAX + 1).fill("uuid")), /too long/);
});
