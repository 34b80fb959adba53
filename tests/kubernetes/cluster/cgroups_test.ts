import assert from "node:assert/strict";
import { hierarchies } from "./cgroups.ts";

Deno.test("hierarchies() reads version 1, version 2, and both beside each other", () => {
  const cases: { says: string; mountinfo: string[]; expected: ReturnType<typeof hierarchies> }[] = [
    {
      says: "version 2 alone",
      mountinfo: [
        "22 28 0:21 / /sys rw,nosuid shared:7 - sysfs sysfs rw",
        "30 22 0:26 / /sys/fs/cgroup rw,nosuid,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot",
      ],
      expected: [{ version: 2, mount: "/sys/fs/cgroup", options: "" }],
    },
    {
      says: "both",
      mountinfo: [
        "31 30 0:27 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw",
        "32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd",
        "33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw master:12 - cgroup cgroup rw,cpu,cpuacct",
        "34 30 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset,clone_children,release_agent=/bin/x",
      ],
      expected: [
        { version: 2, mount: "/sys/fs/cgroup/unified", options: "" },
        { version: 1, mount: "/sys/fs/cgroup/systemd", options: "name=systemd" },
        { version: 1, mount: "/sys/fs/cgroup/cpu,cpuacct", options: "cpu,cpuacct" },
        { version: 1, mount: "/sys/fs/cgroup/cpuset", options: "cpuset" },
      ],
    },
    {
      says: "one that was mounted twice there",
      mountinfo: ["1 2 0:3 / /c rw - cgroup2 c rw", "4 1 0:3 / /c rw - cgroup2 c rw"],
      expected: [{ version: 2, mount: "/c", options: "" }],
    },
    {
      says: "version 2 in front of both, as in a container",
      mountinfo: [
        "22 28 0:21 / /sys rw - sysfs sysfs rw",
        "31 22 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
        "33 22 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu",
        "40 22 0:44 / /sys rw - sysfs none rw",
        "41 40 0:27 / /sys/fs/cgroup rw - cgroup2 none rw",
      ],
      expected: [{ version: 2, mount: "/sys/fs/cgroup", options: "" }],
    },
    { says: "none", mountinfo: ["22 28 0:21 / /sys rw - sysfs sysfs rw", ""], expected: [] },
  ];
  for (const { says, mountinfo, expected } of cases) {
    assert.deepEqual(hierarchies(mountinfo.join("\n")), expected, says);
  }
});
