/** Where control groups of version 2 are. @module */

/** Where the unified hierarchy is mounted: whole rather than a part of it. @param mountinfo as /proc/self/mountinfo */
export function cgroupRoot(mountinfo: string): string | undefined {
  const all = mountinfo.split("\n").map((line) => line.split(" ")).filter((fields) => fields.length > 4);
  // What was mounted later over it, or over a directory above it, hides a mount.
  const hidden = (point: string, index: number) =>
    all.slice(index + 1).some(([, , , , over]) => point === over || point.startsWith(`${over}/`));
  const mounts = all.filter((fields, index) =>
    fields[fields.indexOf("-") + 1] === "cgroup2" && !hidden(fields[4], index)
  );
  const chosen = mounts.find((fields) => fields[3] === "/") ?? mounts[0];
  return chosen?.[4].replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8)));
}
