/** Who wrote the addresses in the status of a Service. @module */
import { FIELD_MANAGER } from "./field_manager.ts";

/** Whether the addresses in the status of a Service are those that Weir wrote there. */
export function ownsIngress(managedFields: unknown): boolean {
  return Array.isArray(managedFields) &&
    managedFields.some((one) =>
      one?.manager === FIELD_MANAGER && one?.subresource === "status" &&
      one?.fieldsV1?.["f:status"]?.["f:loadBalancer"] !== undefined
    );
}
