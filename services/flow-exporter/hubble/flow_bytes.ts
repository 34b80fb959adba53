/**
 * Flows as the bytes of a GetFlowsResponse: each is encoded once, and all readers share it. A reader that names the fields it
 * wants gets those; what the common clients ask for is kept too.
 * @module
 */
import { concatBytes } from "@weir/common";
import type { Message } from "@weir/proto";
import { compileFieldMask, type FieldMasker } from "@weir/proto/field_mask";
import { Flow } from "@weir/proto/flow";
import { GetFlowsResponse } from "@weir/proto/observer";
import type { FlowAnswer } from "../flow_query.ts";

/** What clients from 1.19 to 1.20 ask for lacks what they print: why, which way, and DNS names. They get it all the same. */
const PRINTED = [
  "source_names",
  "destination_names",
  "traffic_direction",
  "policy_match_type",
  "egress_allowed_by",
  "ingress_allowed_by",
  "egress_denied_by",
  "ingress_denied_by",
];
/** Masks whose bytes are kept. */
const MASKS_MAX = 8;

type Mask = FieldMasker<Flow> | undefined;
const messages: Message<GetFlowsResponse> = GetFlowsResponse;

/** Encodes the flows of one exporter. */
export class FlowBytes {
  readonly #masks = new Map<string, FieldMasker<Flow>>();
  /** Those above, and none: their bytes are kept. */
  readonly #kept = new Set<Mask>([undefined]);
  readonly #bytes = new WeakMap<object, Map<Mask, Uint8Array>>();

  /** Reads a request's mask. @throws {RangeError} a path that names nothing */
  maskOf(paths: readonly string[] | undefined): Mask {
    if (paths === undefined || paths.length === 0) return undefined;
    const asked = new Set(paths);
    // A client that prints verdicts and summaries prints these.
    if (asked.has("verdict") && asked.has("Summary")) PRINTED.forEach((path) => asked.add(path));
    const key = [...asked].sort().join();
    const known = this.#masks.get(key);
    if (known !== undefined) return known;
    const mask = compileFieldMask<Flow>(Flow.name, [...asked]);
    if (this.#masks.size < MASKS_MAX) {
      this.#masks.set(key, mask);
      this.#kept.add(mask);
    }
    return mask;
  }

  /** The bytes of an answer. Node and time of the response are the masked flow's, as with the original. */
  of(answer: FlowAnswer<{ readonly flow: Flow }>, mask: Mask): Uint8Array {
    if ("said" in answer) return messages.encode(answer.said);
    const { seen, position } = answer, bytes = this.#shared(seen, mask);
    // Bytes of one message behind those of another are one with the fields of both.
    return position === undefined ? bytes : concatBytes([bytes, messages.encode({ position })]);
  }

  #shared(seen: { readonly flow: Flow }, mask: Mask): Uint8Array {
    const held = this.#bytes.get(seen)?.get(mask);
    if (held !== undefined) return held;
    const flow = mask === undefined ? seen.flow : mask(seen.flow) as Flow;
    const bytes = messages.encode({ flow, node_name: flow.node_name ?? "", time: flow.time });
    if (this.#kept.has(mask)) {
      const forms = this.#bytes.get(seen) ?? new Map();
      this.#bytes.set(seen, forms.set(mask, bytes));
    }
    return bytes;
  }
}
