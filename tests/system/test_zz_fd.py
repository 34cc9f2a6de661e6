import os
from tests.system.conftest import *
from tests.system.stage import *
def test_fd(stage):
    with stage.play(FILES, "sha256tree", *["/"] * 600, kill=(("disk_driver",60.0),("file_server",10.0),("reincarnation_server",5.0),("console",5.0))) as scene:
        for i in range(14):
            fds=os.listdir(f"/proc/{scene.hypervisor}/fd")
            rows=scene.ask("ps")
            rss=[l for l in open(f"/proc/{scene.hypervisor}/status") if l.startswith(("VmRSS"))]
            print(i, len(fds), sum(r["deaths"] for r in rows), rss, len(family(scene.hypervisor)))
            time.sleep(1)
            if scene._ended.is_set(): break
