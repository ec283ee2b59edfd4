//! Loads the filter and prints what the kernel's verifier made of it.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut loaded = pbx_xdp::Loaded::load(&pbx_xdp::Options::default())?;
    let info = loaded.program()?.info()?;
    println!("verified instructions: {:?} of 1000000", info.verified_instruction_count());
    println!("translated bytes: {:?}, native bytes: {}", info.size_translated(), info.size_jitted());
    Ok(())
}
