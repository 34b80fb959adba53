/**
 * One end of a flow, in a line: what it is called, else its address.
 * @module
 */
import type { FlowEnd } from "../../api.ts";

/** The best name that there is. */
export function endName(end: FlowEnd): string {
  if (end.pod !== "") return end.pod;
  if (end.names.length > 0) return end.names[0];
  const reserved = end.labels.find((label) => label.startsWith("reserved:"));
  return reserved ? reserved.slice(9) : end.ip || "unknown";
}

export function EndText({ end }: { end: FlowEnd }) {
  const name = endName(end);
  return (
    <span
      title={[end.namespace && `${end.namespace}/${end.pod}`, end.ip, ...end.names].filter(Boolean).join(
        "\n",
      )}
    >
      {end.namespace !== "" && <span className="soft">{end.namespace}/</span>}
      {name}
      {end.pod === "" && end.ip !== "" && name !== end.ip && <span className="soft">{` ${end.ip}`}</span>}
    </span>
  );
}
