"""Sets offloads of devices, as ethtool -K does: offload.py DEVICE tx=0 gso=0 ... Used by xdp_traffic_test.ts."""
import array, fcntl, socket, struct, sys

SIOCETHTOOL = 0x8946
SET = {"tx": 0x17, "tso": 0x1F, "gso": 0x24}

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    for setting in sys.argv[2:]:
        name, value = setting.split("=")
        data = array.array("B", struct.pack("II", SET[name], int(value)))
        request = struct.pack("16sP", sys.argv[1].encode(), data.buffer_info()[0])
        fcntl.ioctl(s, SIOCETHTOOL, request)
