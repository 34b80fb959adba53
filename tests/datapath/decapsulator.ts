/** Packets as a tunnel would have brought them, for from_overlay. @module */
import { BpfObject, Gate, StructuralVerifier, u32 } from "@weir/loader";
import * as abi from "@weir/maps";
import { compile } from "../../datapath/bpf/build.ts";
import type { TestNode } from "./node.ts";
import { type Bytes, ipv4Number, packet, type PacketSpec } from "./packet.ts";

/** Runs from_overlay on what a tunnel with this VNI and sender would have brought, after from_netdev noted its origin. */
export async function decapsulator(node: TestNode) {
  const out = new URL("../../.build/test", import.meta.url).pathname;
  Deno.mkdirSync(out, { recursive: true });
  const source = new URL("testdata/decapsulated.c", import.meta.url).pathname;
  await compile(source, `${out}/decapsulated.o`, { inputs: [source] });
  const object = BpfObject.openFile(`${out}/decapsulated.o`);
  object.load(new Gate(new StructuralVerifier()));
  object.openMap("decapsulated_target").update(u32(0), u32(node.program("from_overlay").fd));
  const run = (
    vni: number,
    spec: PacketSpec | Bytes,
    sender = "192.0.2.2",
    origin = abi.ORIGIN_NODE,
    mark = abi.MARK_TUNNEL,
  ) => {
    const ctx = new Uint8Array(192);
    const view = new DataView(ctx.buffer);
    view.setUint32(40, 1, true);
    view.setUint32(48, vni, true);
    view.setUint32(52, ipv4Number(sender), true);
    view.setUint32(56, origin, true);
    view.setUint32(60, mark, true);
    node.drainEvents();
    const result = object.program("decapsulated").testRun({
      data: spec instanceof Uint8Array ? spec : packet(spec),
      ctx,
    });
    return { verdict: result.retval, data: result.data, events: node.drainEvents() };
  };
  return { object, run };
}
