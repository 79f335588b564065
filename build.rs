//! What the compiler cannot see: the folder of families is read whole, so a new file there is a reason to build.

fn main() {
    println!("cargo::rerun-if-changed=src/model/families");
}
