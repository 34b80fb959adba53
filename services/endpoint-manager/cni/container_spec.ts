/**
 * A container that no Kubernetes describes, as an endpoint: podman, nerdctl, cnitool. Pure.
 *
 *     name       its id, with the device's name where that is not eth0
 *     labels     `labels` of the configuration, and WEIR_LABELS=a=b,c=d of CNI_ARGS, which goes before; container:network and,
 *                where the runtime names it, container:name
 *     namespace  WEIR_NAMESPACE, else `namespace` of the configuration
 *
 * @module
 */
import { type Attachment, podOf } from "./attachment.ts";
import type { NetworkConfig } from "./network_config.ts";
import type { Described } from "./described.ts";

/** Source of labels that a container runtime gives. */
const SOURCE_CONTAINER = "container";
const DEVICE_DEFAULT = "eth0";

/** The container as an endpoint. */
export function containerSpec(attachment: Attachment, config: NetworkConfig): Described {
  const { containerId, ifname, args } = attachment;
  const given = (args.get("WEIR_LABELS") ?? "").split(",").filter((label) => label !== "");
  // Runtimes without Kubernetes put the container's name where the pod's would be.
  const name = podOf(attachment)?.pod ?? args.get("K8S_POD_NAME") ?? "";
  return {
    name: ifname === DEVICE_DEFAULT ? containerId : `${containerId}/${ifname}`,
    namespace: args.get("WEIR_NAMESPACE") ?? config.namespace,
    podName: name,
    podUid: "",
    labels: [
      ...[...new Map([...config.labels, ...given].map((label) => [keyOf(label), label])).values()],
      `${SOURCE_CONTAINER}:network=${config.name}`,
      ...(name === "" ? [] : [`${SOURCE_CONTAINER}:name=${name}`]),
    ],
    namedPorts: [],
    poolV4: "",
    poolV6: "",
  };
}

/** Source and key of a label's text. */
function keyOf(label: string): string {
  return label.split("=")[0];
}
