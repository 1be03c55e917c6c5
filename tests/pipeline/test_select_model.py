from pathlib import Path
from nnlite import pipeline
import shutil, time
def test_x(balls, cross_validated_work, tmp_path):
    w = Path(shutil.copytree(cross_validated_work, tmp_path / "work"))
    s=time.time()
    r = pipeline.select(balls, work=w, device="cpu")
    print(time.time()-s)
    print(r.path.read_text())
    from fake_pipeline import nn
    s=time.time()
    print(nn("select", str(balls), "--work", str(w), "--device", "cpu").stdout)
    print(time.time()-s)
    print(nn("predict", str(balls), str(balls/"images"/"ball_0.nii.gz"), "-o", str(tmp_path/"o"), "--work", str(w), "--device", "cpu").stdout)
