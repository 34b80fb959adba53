/**
 * What a relay looks at in a GetFlowsResponse: that every client can read it, whose it is and when it was. The bytes pass through
 * as they came: a client ends its whole stream at one message that it cannot read.
 *
 *     1 flow │ 2 node_status │ 3 lost_events │ 1000 node name │ 1001 { seconds 1, nanos 2 } │ 150203 position, for the relay alone
 *
 * @module
 */
import { FlowPosition } from "@weir/proto/observer";
import { WireCheck, WireReader } from "@weir/proto/wire_check";

const FLOW = 1, NODE_STATUS = 2, LOST_EVENTS = 3, TIME = 1001, POSITION = 150_203;
/** Its tag, and a length below 128. */
const POSITION_HEAD_BYTES = 4;
const KINDS: Readonly<Record<number, ResponseHead["kind"]>> = {
  [FLOW]: "flow",
  [NODE_STATUS]: "node_status",
  [LOST_EVENTS]: "lost_events",
};
const WHOSE = "node_name", FLOWS = "flow.node_name";
let checker: WireCheck | undefined;

/** Of one response. */
export interface ResponseHead {
  /** "nothing": it says nothing that is known here. */
  readonly kind: "flow" | "node_status" | "lost_events" | "nothing";
  /** Names of nodes in it, of the response and of its flow; none where the request's field mask leaves them out. */
  readonly nodeNames: readonly string[];
  /** Unix milliseconds with a fraction; undefined where the mask leaves it out. */
  readonly unixMs: number | undefined;
  /** What the node is to be asked for that comes next; undefined where it does not say. */
  readonly position: FlowPosition | undefined;
  /** The response without that. */
  readonly bytes: Uint8Array;
}

/** Reads the head. Pure. @throws {RangeError} bytes that are no message */
export function readResponseHead(bytes: Uint8Array): ResponseHead {
  checker ??= new WireCheck("observer.GetFlowsResponse", [WHOSE, FLOWS]);
  let kind: ResponseHead["kind"] = "nothing", unixMs: number | undefined, position: FlowPosition | undefined;
  let end = bytes.length;
  const texts = checker.check(bytes, (field, start, below) => {
    if (field === TIME) unixMs = new WireReader(bytes, start).time(below);
    else if (field === POSITION) {
      position = FlowPosition.decode(bytes.subarray(start, below));
      // A node writes it behind everything else.
      if (below === bytes.length) end = start - POSITION_HEAD_BYTES;
    } else kind = KINDS[field] ?? kind;
  });
  const nodeNames = [texts.get(WHOSE) ?? "", texts.get(FLOWS) ?? ""].filter((name) => name !== "");
  return { kind, nodeNames, unixMs, position, bytes: bytes.subarray(0, end) };
}
