struct L; impl log::Log for L { fn enabled(&self,_:&log::Metadata)->bool{true} fn log(&self,r:&log::Record){ if r.level()<=log::Level::Warn { let s=format!("{}",r.args()); println!("LOG {}", &s[s.len().saturating_sub(1500)..]);} } fn flush(&self){} }
fn main() {
    log::set_logger(&L).ok(); log::set_max_level(log::LevelFilter::Warn);
    let mut l = match pbx_xdp::Loaded::load(&pbx_xdp::Options{test_clock:true,..Default::default()}) { Ok(l)=>l, Err(e)=>{ let s=format!("{e:?}"); println!("{}", &s[s.len().saturating_sub(6000)..].replace("\\n","\n")); return } };
    let i = l.program().unwrap().info().unwrap();
    println!("verified insns {:?} xlated {:?} jited {}", i.verified_instruction_count(), i.size_translated(), i.size_jitted());
    println!("{:?}", l.run(&[0u8;64], 1));
}
