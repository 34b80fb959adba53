/** Field masks of `GET /v1/flows`: what a reader does not name is not sent. @module */
import { ProblemError } from "@weir/common/problem";
import { compileFieldMask } from "@weir/proto/field_mask";
import { Flow } from "@weir/proto/flow";
import type { GetFlowsResponse } from "@weir/proto/observer";

/** The error for a mask that names what is not there. */
export function maskInvalid(error: RangeError): ProblemError {
  return new ProblemError("FIELD_MASK_INVALID", {
    detail: `Cannot use the field mask: ${error.message}`,
    expected: "names of fields of flow.Flow, with dots",
  });
}

/** Takes out of a response what these paths do not name; no path names all. @throws {ProblemError} FIELD_MASK_INVALID */
export function readResponseMask(
  paths: readonly string[] | undefined,
): (response: GetFlowsResponse) => GetFlowsResponse {
  if (paths === undefined || paths.length === 0) return (response) => response;
  let mask: ReturnType<typeof compileFieldMask<Flow>>;
  try {
    mask = compileFieldMask<Flow>(Flow.name, paths);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw maskInvalid(error);
  }
  return (response) => {
    if (response.flow === undefined) return response;
    const flow = Flow.create(mask(response.flow));
    return { ...response, flow, node_name: flow.node_name, time: flow.time };
  };
}
