/** The socket of CNI: for weir-cni, which is root's. @module */
import type { ApiServer } from "@weir/common";
import { CniAnswer, CniRequest } from "@weir/proto/endpoint";
import type { CniService } from "./cni_service.ts";

/** Largest network configuration: a GC names every attachment of the node. */
const REQUEST_BYTES_MAX = 5 << 20;

/** Adds the routes of CNI to a server that nobody else may use. */
export function mountCni(api: ApiServer, service: CniService): void {
  for (const command of ["ADD", "DEL", "CHECK", "GC", "STATUS"] as const) {
    api.action({
      path: `/v1/cni:${command.toLowerCase()}`,
      request: CniRequest,
      response: CniAnswer,
      bodyBytesMax: REQUEST_BYTES_MAX,
      handle: (request) => service.handle(command, request),
      description: `${command} of CNI`,
    });
  }
}
