/**
 * What a relay looks at in a GetFlowsResponse: that every client can read it, whose it is and when it was. The bytes pass through
 * as they came: a client ends its whole stream at one message that it cannot read.
 *
 *     1 flow │ 2 node_status │ 3 lost_events │ 1000 node name │ 1001 { seconds 1, nanos 2 }
 *
 * @module
 */
import { WireCheck, WireReader } from "@weir/proto/wire_check";

const FLOW = 1, NODE_STATUS = 2, LOST_EVENTS = 3, TIME = 1001;
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
}

/** Reads the head. Pure. @throws {RangeError} bytes that are no message */
export function readResponseHead(bytes: Uint8Array): ResponseHead {
  checker ??= new WireCheck("observer.GetFlowsResponse", [WHOSE, FLOWS]);
  let kind: ResponseHead["kind"] = "nothing", unixMs: number | undefined;
  const texts = checker.check(bytes, (field, start, end) => {
    if (field === TIME) unixMs = new WireReader(bytes, start).time(end);
    else kind = KINDS[field] ?? kind;
  });
  const nodeNames = [texts.get(WHOSE) ?? "", texts.get(FLOWS) ?? ""].filter((name) => name !== "");
  return { kind, nodeNames, unixMs };
}
